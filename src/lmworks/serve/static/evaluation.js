// Tables of the report are sorted in place; without this script the heads are links that do the same.

/** @param {HTMLTableCellElement | undefined} cell */
function text(cell) {
  return (cell?.textContent ?? "").trim().toLowerCase();
}

/** Numbers by value, else text; what is no number among numbers comes last either way.
 * @param {HTMLTableRowElement[]} rows @param {number} column @param {boolean} descending */
function sorted(rows, column, descending) {
  const keyed = rows.map((row) => ({ row, key: row.cells[column]?.dataset.key }));
  const sign = descending ? -1 : 1;
  if (keyed.some(({ key }) => key !== undefined)) {
    const told = keyed.filter(({ key }) => key !== undefined).sort((a, b) => sign * (Number(a.key) - Number(b.key)));
    return [...told, ...keyed.filter(({ key }) => key === undefined)].map(({ row }) => row);
  }
  return [...rows].sort((a, b) => sign * (text(a.cells[column]) < text(b.cells[column]) ? -1 : 1));
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("table.sortable a.sort") : null;
  const head = link?.closest("th");
  const table = link?.closest("table");
  if (!(link instanceof HTMLAnchorElement) || !head || !table || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.querySelectorAll("th")) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  body.append(...sorted([...body.rows], head.cellIndex, descending));
  history.replaceState(null, "", `?sort=${descending ? "-" : ""}${encodeURIComponent(table.id)}.${head.cellIndex}`);
});
