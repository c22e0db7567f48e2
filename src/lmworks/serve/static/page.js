// What every page shares: toasts, copying, times that stay current, keyboard shortcuts, and thumbs without a reload.

const SECTIONS = { c: "/", o: "/overview", d: "/documents", l: "/log", w: "/review", x: "/experiments", e: "/evaluation", p: "/compare", r: "/rank", s: "/system" };

/** Says something in passing, to the eye and to a screen reader.
 * @param {string} text */
export function toast(text) {
  const box = document.getElementById("toasts");
  const item = document.createElement("div");
  item.className = "toast";
  item.textContent = text;
  box?.replaceChildren(item);
  setTimeout(() => item.remove(), 4000);
}

/** Copies text; the older way where the page is not in a secure context (plain http on another machine).
 * @param {string} text @returns {Promise<boolean>} */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** @param {number} past seconds @returns {string | null} null: old enough to stay as it is */
function ago(past) {
  if (past < 45) return "just now";
  if (past < 45 * 60) return `${Math.max(1, Math.round(past / 60))} min ago`;
  if (past < 22 * 3600) return `${Math.max(1, Math.round(past / 3600))} h ago`;
  return null;
}

export function refreshTimes() {
  for (const element of document.querySelectorAll("time[data-relative]")) {
    const moment = new Date(/** @type {HTMLTimeElement} */ (element).dateTime);
    const text = ago((Date.now() - moment.getTime()) / 1000);
    if (text !== null && text !== element.textContent) element.textContent = text;
    element.setAttribute("title", moment.toLocaleString());
  }
}

/** @param {EventTarget | null} target */
export function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

let afterG = false;

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const followed = afterG;
  afterG = event.key === "g";
  if (followed && event.key in SECTIONS) {
    location.href = SECTIONS[/** @type {keyof typeof SECTIONS} */ (event.key)];
  } else if (event.key === "/") {
    const field = /** @type {HTMLElement | null} */ (document.querySelector("[data-main-field]"));
    if (!field) return;
    event.preventDefault();
    field.focus();
  } else if (event.key === "?") {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("shortcuts"));
    if (!dialog.open) dialog.showModal();
  }
}

/** Sends a thumb without leaving the page; when that fails the form goes its plain way.
 * @param {SubmitEvent} event */
async function onFeedback(event) {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.dataset.feedback === undefined) return;
  event.preventDefault();
  const fields = new FormData(form);
  const value = String(fields.get("value") ?? "") || null;
  const reason = [fields.get("reason"), fields.get("text")].map((part) => String(part ?? "").trim()).filter(Boolean);
  try {
    const response = await fetch(`/api/interactions/${encodeURIComponent(form.dataset.feedback)}/feedback`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ value, reason: reason.join(": ") }),
    });
    if (!response.ok) throw new Error(String(response.status));
  } catch {
    form.submit();
    return;
  }
  showThumb(form, value);
  toast(value === null ? "Taken back" : "Noted in the log");
}

/** @param {HTMLFormElement} form @param {string | null} value */
function showThumb(form, value) {
  const box = form.closest("[data-thumbs]");
  const popover = form.closest("[popover]");
  if (popover instanceof HTMLElement) popover.hidePopover();
  const up = box?.querySelector("form.thumb");
  up?.querySelector("button")?.setAttribute("aria-pressed", String(value === "up"));
  const field = up?.querySelector("input[name=value]");
  if (field instanceof HTMLInputElement) field.value = value === "up" ? "" : "up";
  box?.querySelector("[data-thumb-down]")?.setAttribute("aria-pressed", String(value === "down"));
}

/** Says what was done with an answer: a click on a source, a copy, a return. Nobody waits for it.
 * @param {Element | null} place in the answer @param {string} name */
export function outcome(place, name) {
  const interaction = place?.closest("[data-interaction]")?.getAttribute("data-interaction");
  if (!interaction) return;
  const body = JSON.stringify({ name, interaction });
  fetch("/v1/outcomes", { method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body }).catch(() => {});
}

/** @param {MouseEvent} event */
function onSource(event) {
  const link = event.target instanceof Element ? event.target.closest(".cite, .source .place") : null;
  outcome(link, "click");
}

/** A button with data-copy copies that text, or without one the code beside it. @param {MouseEvent} event */
async function onCopy(event) {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (!(button instanceof HTMLElement)) return;
  outcome(button, "copy");
  toast((await copy(button.dataset.copy || (button.closest(".code-block")?.querySelector("code")?.textContent ?? ""))) ? "Copied" : "The browser does not allow copying");
}

document.addEventListener("keydown", onKey);
document.addEventListener("submit", onFeedback);
document.addEventListener("click", onCopy);
document.addEventListener("click", onSource);
document.addEventListener("copy", () => outcome(getSelection()?.anchorNode?.parentElement?.closest(".answer") ?? null, "copy"));
refreshTimes();
setInterval(refreshTimes, 30000);
