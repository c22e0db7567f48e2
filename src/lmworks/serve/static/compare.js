// Votes by the keyboard, and without loading the page anew; without this script the forms do the same.
import { isTyping, toast } from "./page.js";

let busy = false;

/** Shows the next pair in the place of this one; what failed leaves the page, and the reason in it, as they are.
 * @param {string} address @param {RequestInit} [options] @param {string} [said] */
async function show(address, options, said = "") {
  if (busy) return;
  busy = true;
  try {
    const response = await fetch(address, options);
    const next = new DOMParser().parseFromString(await response.text(), "text/html");
    const main = next.getElementById("main");
    if (!response.ok || !main) throw new Error(main?.querySelector(".empty h1 + p")?.textContent ?? String(response.status));
    document.getElementById("main")?.replaceWith(main);
    history.replaceState(null, "", response.url);
    scrollTo(0, 0);
    document.getElementById("pair-title")?.focus();
    toast(`${said}${document.getElementById("progress")?.textContent ?? ""}`);
  } catch (error) {
    toast(`This was not kept: ${error instanceof Error ? error.message : error}`);
  } finally {
    busy = false;
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form instanceof HTMLFormElement && form.dataset.ask !== undefined) toast("Both are answering; this may take a while.");
  if (!(form instanceof HTMLFormElement) || form.dataset.vote === undefined || !event.submitter) return;
  event.preventDefault();
  const body = new URLSearchParams();
  for (const [name, value] of new FormData(form, event.submitter)) body.append(name, String(value));
  show(form.action, { method: "POST", body }, body.get("choice") === "undo" ? "Taken back. " : "Kept. ");
});

document.addEventListener("keydown", (event) => {
  const reason = document.getElementById("reason");
  if (event.key === "Escape" && event.target === reason) reason?.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && event.target instanceof Element && event.target.closest("a, button")) return;
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
  const next = document.getElementById("next");
  if (button instanceof HTMLButtonElement) button.click();
  else if (event.key === "r") reason?.focus();
  else if (event.key === "n" && next instanceof HTMLAnchorElement) show(next.href);
  else return;
  event.preventDefault();
});
