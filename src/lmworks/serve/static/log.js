// The log: rows open in a panel beside the table, keys move through them, new rows announce themselves.

import { isTyping, toast } from "./page.js";

const WIDE = matchMedia("(min-width: 1000px)");
const EVERY = 4000; // milliseconds between two looks for new rows

const table = /** @type {HTMLTableElement | null} */ (document.getElementById("log"));
const panel = document.getElementById("panel");
const body = /** @type {HTMLElement | null} */ (panel?.querySelector(".panel-body") ?? null);
const main = document.getElementById("main");
const listAddress = location.pathname + location.search;

/** @returns {HTMLTableRowElement[]} */
function rows() {
  return table ? [...table.tBodies[0].rows] : [];
}

/** @returns {HTMLTableRowElement | undefined} */
function current() {
  return rows().find((row) => row.hasAttribute("aria-current"));
}

/** @param {HTMLTableRowElement | undefined} row */
function mark(row) {
  for (const other of rows()) other.toggleAttribute("aria-current", other === row);
  row?.scrollIntoView({ block: "nearest" });
}

/** Shows the part of an interaction's page that the panel has room for.
 * @param {Response} response */
async function fill(response) {
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const article = page.getElementById("interaction");
  if (!article || !body || !panel) throw new Error(`no interaction at ${response.url}`);
  body.replaceChildren(article);
  body.scrollTop = 0;
  panel.hidden = false;
  main?.classList.add("beside");
}

/** @param {HTMLTableRowElement} row @param {boolean} push whether the address changes with it */
async function open(row, push = true) {
  const link = /** @type {HTMLAnchorElement} */ (row.querySelector("a.question"));
  mark(row);
  try {
    await fill(await fetch(link.href));
  } catch {
    location.href = link.href;
    return;
  }
  panel?.querySelector("[data-open]")?.setAttribute("href", link.href);
  if (push) history.pushState({ id: row.dataset.id }, "", link.href);
}

/** @param {boolean} push */
function close(push = true) {
  if (!panel || panel.hidden) return;
  panel.hidden = true;
  body?.replaceChildren();
  main?.classList.remove("beside");
  if (push) history.pushState({}, "", listAddress);
  const link = current()?.querySelector("a.question");
  if (link instanceof HTMLElement) link.focus();
}

/** @param {number} step */
function move(step) {
  const all = rows();
  const at = all.findIndex((row) => row.hasAttribute("aria-current"));
  const next = all[at === -1 ? 0 : Math.min(all.length - 1, Math.max(0, at + step))];
  if (!next) return;
  if (panel && !panel.hidden) open(next);
  else mark(next);
}

table?.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  const row = target?.closest("tr");
  if (!row?.dataset.id || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  if (target?.closest("a:not(.question)") || getSelection()?.toString()) return;
  const link = /** @type {HTMLAnchorElement} */ (row.querySelector("a.question"));
  event.preventDefault();
  if (WIDE.matches) open(row);
  else location.href = link.href;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
  else if (event.key === "Escape") close();
  else if (event.key === "Enter" && event.target === document.body) {
    const row = current();
    if (row && WIDE.matches) open(row);
    else row?.querySelector("a")?.click();
  } else return;
  if (event.key !== "Escape") event.preventDefault();
});

panel?.querySelector("[data-close]")?.addEventListener("click", () => close());

addEventListener("popstate", (event) => {
  const row = rows().find((one) => one.dataset.id === event.state?.id);
  if (row) open(row, false);
  else close(false);
});

// A note is added without leaving the list; when that fails the form goes its plain way.
panel?.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.dataset.note === undefined) return;
  event.preventDefault();
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form)) fields.append(name, String(value));
  try {
    const response = await fetch(form.action, { method: "POST", body: fields });
    if (!response.ok) throw new Error(String(response.status));
    await fill(response);
    toast("Noted");
  } catch {
    form.submit();
  }
});

// New rows ------------------------------------------------------------------------------------------------------------

const newer = document.getElementById("newer");

async function look() {
  if (!newer || newer.dataset.live !== "yes" || document.hidden) return;
  const query = new URLSearchParams({ filter: newer.dataset.filter ?? "", after: newer.dataset.after ?? "" });
  try {
    const response = await fetch(`/log/newer/count?${query}`);
    if (!response.ok) return;
    const { count, more } = await response.json();
    newer.hidden = count === 0;
    newer.textContent = `${count}${more ? " or more" : ""} new`;
  } catch {
    // The server is away: the next look will tell.
  }
}

setInterval(look, EVERY);
document.addEventListener("visibilitychange", look);
