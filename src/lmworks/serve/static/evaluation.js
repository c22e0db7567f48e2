// Tables of reports are sorted by their heads, which become buttons.

/** Numbers by value, else text; what is no number among numbers comes last either way.
 * @param {HTMLTableRowElement[]} rows @param {number} column @param {boolean} descending */
function sorted(rows, column, descending) {
  const keyed = rows.map((row) => {
    const cell = row.cells[column];
    return { row, key: cell?.dataset.key, text: (cell?.textContent ?? "").trim().toLowerCase() };
  });
  const numbers = keyed.filter(({ key }) => key !== undefined);
  const sign = descending ? -1 : 1;
  if (!numbers.length) keyed.sort((a, b) => sign * a.text.localeCompare(b.text));
  else numbers.sort((a, b) => sign * (Number(a.key) - Number(b.key)));
  const ordered = numbers.length ? [...numbers, ...keyed.filter(({ key }) => key === undefined)] : keyed;
  return ordered.map(({ row }) => row);
}

for (const head of document.querySelectorAll(".report-section table.data th")) {
  const table = head.closest("table");
  if (!(head instanceof HTMLTableCellElement) || !table) continue;
  const button = document.createElement("button");
  button.className = "sort";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const body = table.tBodies[0];
    body.append(...sorted([...body.rows], head.cellIndex, descending));
  });
}
