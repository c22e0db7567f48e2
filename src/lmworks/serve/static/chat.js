// The chat: asks by fetch, shows the answer while it is written, then takes over the turn as the server renders it.
// Everything here also works without this script, by plain forms and links.

import { isTyping, outcome, refreshTimes } from "./page.js";
import { complete, Refused } from "./completion.js";
import { following, write } from "./writing.js";

/** @template {Element} T @param {string} selector @param {ParentNode} [root] @returns {T} */
const one = (selector, root = document) => /** @type {T} */ (root.querySelector(selector));

const STEPS = /** @type {Record<string, string>} */ ({
  queued: "Waiting for its turn",
  search: "Searching the documents",
  rerank: "Comparing passages",
  read: "Reading",
  measure: "Weighing sentences",
  decide: "Deciding what can be said",
  write: "Writing",
  verify: "Verifying what was written",
});
const DRAFT = `draft ${location.pathname}`;

const room = /** @type {HTMLElement} */ (one("#main"));
const thread = /** @type {HTMLElement} */ (one("#thread"));
const composer = /** @type {HTMLFormElement} */ (one("#composer"));
const field = /** @type {HTMLTextAreaElement} */ (one("#question"));
const picker = /** @type {HTMLSelectElement} */ (one("#model"));
const sendButton = /** @type {HTMLButtonElement} */ (one(".send", composer));
const stopButton = /** @type {HTMLButtonElement} */ (one(".stop", composer));
const conversation = /** @type {HTMLInputElement} */ (one("[name=conversation]", composer)).value;
const parentField = /** @type {HTMLInputElement} */ (one("[name=parent]", composer));

/** What is being answered now. @type {AbortController | null} */
let running = null;

// ---------------------------------------------------------------------------------------------------------------------
// Asking

/** @typedef {{ question: string, model: string, parent: string }} Asked */

/** @param {Asked} asked */
async function ask(asked) {
  if (running || room.dataset.ready !== "yes") return;
  running = new AbortController();
  showProblem("");
  showWelcome(false);
  const live = openTurn(asked);
  setRunning(true);
  const writer = write(one(".answer", live), asked.model === "assistant");
  let id = "";
  try {
    for await (const event of complete(request(asked), running.signal)) {
      id = event.id || id;
      if (event.progress) one(".step", live).textContent = STEPS[event.progress] ?? event.progress;
      if (event.text) {
        writer.add(event.text);
        one(".step", live).textContent = "Answering";
      }
    }
    await writer.done();
    await adopt(live, id);
  } catch (error) {
    await writer.done();
    await onFailure(error, asked, live, id);
  } finally {
    running = null;
    setRunning(false);
  }
}

/** @param {Asked} asked @returns {Record<string, unknown>} the body of /v1/chat/completions */
function request({ question, model, parent }) {
  const metadata = parent ? { conversation, parent } : { conversation };
  const sampling = kindOf(model) === "assistant" ? {} : JSON.parse(composer.dataset.sampling ?? "{}");
  return { model, messages: [...path(parent), { role: "user", content: question }], stream: true, metadata, ...sampling };
}

/** @param {boolean} on */
function showWelcome(on) {
  const welcome = document.getElementById("welcome");
  if (welcome) welcome.hidden = !on;
}

/** The messages of the turn `id` and those before it, oldest first. @param {string} id */
function path(id) {
  const messages = [];
  const seen = new Set();
  for (let turn = turnOf(id); turn && !seen.has(turn); turn = turnOf(turn.dataset.parent ?? "")) {
    seen.add(turn);
    if (!turn.dataset.response) continue;
    messages.unshift({ role: "assistant", content: turn.dataset.response });
    messages.unshift({ role: "user", content: turn.dataset.question ?? "" });
  }
  return messages;
}

/** @param {string} id @returns {HTMLElement | null} */
const turnOf = (id) => (id ? document.getElementById(`t-${id}`) : null);

/** @param {string} model */
const kindOf = (model) => [...picker.options].find((option) => option.value === model)?.dataset.kind;

// ---------------------------------------------------------------------------------------------------------------------
// A turn, while it is written and afterwards

/** @param {Asked} asked @returns {HTMLElement} */
function openTurn({ question, model }) {
  const template = /** @type {HTMLTemplateElement} */ (one("#live-turn"));
  const turn = /** @type {HTMLElement} */ (one("article", /** @type {DocumentFragment} */ (template.content.cloneNode(true))));
  const title = one(".question", turn);
  title.textContent = question;
  title.classList.toggle("long", question.length > 140);
  one(".model", turn).textContent = model;
  thread.insertBefore(turn, document.getElementById("last"));
  turn.scrollIntoView({ block: "start" });
  return turn;
}

/** Replaces what was streamed by the turn that the server renders from the log: there is one renderer.
 * @param {HTMLElement} live @param {string} id */
async function adopt(live, id) {
  const response = await fetch(`/chat/turn/${encodeURIComponent(id)}?wait=true`);
  const turn = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("article");
  if (!response.ok || !turn) throw new TypeError("the log does not hold the answer");
  const replace = () => live.replaceWith(document.adoptNode(turn));
  if (turn.querySelector(".sources")) replace();
  else following(replace); // a long text that the reader followed to its end: show the buttons below it, too
  parentField.value = id;
  refreshTimes();
  rememberConversation(/** @type {HTMLElement} */ (turn));
}

/** @param {HTMLElement} turn */
function rememberConversation(turn) {
  const address = `/chat/${encodeURIComponent(conversation)}`;
  if (location.pathname !== address) history.replaceState(null, "", address);
  const list = one("#conversations");
  if ([...list.querySelectorAll("a")].some((link) => link.pathname === address)) return;
  one("[data-no-conversations]")?.remove();
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = address;
  link.setAttribute("aria-current", "page");
  const name = document.createElement("span");
  name.className = "clip";
  name.textContent = turn.dataset.question ?? "";
  const time = document.createElement("span");
  time.className = "tiny muted";
  time.textContent = "just now";
  link.append(name, time);
  item.append(link);
  list.prepend(item);
}

// ---------------------------------------------------------------------------------------------------------------------
// What can go wrong

/** @param {unknown} error @param {Asked} asked @param {HTMLElement} live @param {string} id */
async function onFailure(error, asked, live, id) {
  const stopped = running?.signal.aborted;
  if (stopped) one(".step", live).textContent = "Stopping";
  try {
    if (id) return await adopt(live, id); // it was logged, with what had been written
  } catch {
    // the server is gone as well: say so below
  }
  live.remove();
  showWelcome(!thread.querySelector(".turn"));
  if (!field.value) setText(asked.question);
  if (stopped) return undefined;
  if (error instanceof Refused) return showProblem(error.message, asked, error.retryAfter);
  return showProblem("The connection to the server was lost.", asked);
}

/** @param {string} text "" takes it away @param {Asked} [asked] what to ask again @param {number} [wait] seconds before */
function showProblem(text, asked, wait = 0) {
  const box = one("#problem");
  box.replaceChildren();
  if (!text) return;
  const template = /** @type {HTMLTemplateElement} */ (one("#problem-notice"));
  box.append(template.content.cloneNode(true));
  one("p", box).textContent = text;
  const button = /** @type {HTMLButtonElement} */ (one("button", box));
  button.hidden = !asked;
  button.addEventListener("click", () => asked && (setText(""), ask(asked)));
  const until = Date.now() + wait * 1000;
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    button.disabled = left > 0;
    button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left > 0 && button.isConnected) setTimeout(tick, 250);
  };
  tick();
}

async function waitUntilReady() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      if ((await fetch("/ready")).ok) return location.reload();
    } catch {
      // the server is being started again: go on asking
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The composer

/** @param {boolean} on */
function setRunning(on) {
  sendButton.hidden = on;
  stopButton.hidden = !on;
}

/** @param {string} text */
function setText(text) {
  field.value = text;
  resize();
  if (text) sessionStorage.setItem(DRAFT, text);
  else sessionStorage.removeItem(DRAFT);
}

/** Grows with its text, where the browser does not do so by itself. */
function resize() {
  if (CSS.supports("field-sizing", "content")) return;
  field.rows = Math.min(10, field.value.split("\n").length);
}

/** Puts the last question into the empty field; what is sent then stands beside it, not after it. */
function editLast() {
  const last = /** @type {HTMLElement | undefined} */ ([...thread.querySelectorAll(".turn[data-interaction]")].at(-1));
  if (!last) return;
  setText(last.dataset.question ?? "");
  parentField.value = last.dataset.parent ?? "";
}

/** @param {SubmitEvent} event */
function onSubmit(event) {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form !== composer && form.dataset.retry === undefined) return;
  event.preventDefault();
  const fields = new FormData(form);
  const asked = {
    question: String(fields.get("question") ?? "").trim(),
    model: String(fields.get("model") ?? ""),
    parent: String(fields.get("parent") ?? ""),
  };
  if (!asked.question || running || room.dataset.ready !== "yes") return;
  if (form === composer) setText("");
  ask(asked);
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.key === "Escape" && running) {
    running.abort();
  } else if (event.target !== field || event.isComposing) {
    if (event.key === "Escape" && isTyping(event.target)) /** @type {HTMLElement} */ (event.target).blur();
  } else if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    composer.requestSubmit();
  } else if (event.key === "Escape") {
    field.blur();
  } else if (event.key === "ArrowUp" && field.value === "") {
    event.preventDefault();
    editLast();
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Citations and their sources

/** @param {Event} event @returns {{ cite: HTMLElement, source: HTMLElement } | null} */
function cited(event) {
  const cite = event.target instanceof Element ? event.target.closest("a.cite") : null;
  const source = cite instanceof HTMLElement ? document.getElementById(cite.dataset.source ?? "") : null;
  return cite instanceof HTMLElement && source ? { cite, source } : null;
}

/** @param {boolean} on @returns {(event: Event) => void} */
const light = (on) => (event) => {
  const found = cited(event);
  for (const element of found ? [found.cite, found.source] : []) element.classList.toggle("lit", on);
};

/** @param {MouseEvent} event */
function onClick(event) {
  const found = cited(event);
  const example = event.target instanceof Element ? event.target.closest("a[data-example]") : null;
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (found) {
    event.preventDefault();
    found.source.scrollIntoView({ block: "nearest" });
    (found.source.querySelector("a") ?? found.source).focus({ preventScroll: true });
    found.source.classList.add("lit");
    setTimeout(() => found.source.classList.remove("lit"), 2500);
  } else if (example instanceof HTMLElement && room.dataset.ready === "yes") {
    event.preventDefault();
    ask({ question: example.dataset.example ?? "", model: picker.value, parent: "" });
  }
}

document.addEventListener("submit", onSubmit);
document.addEventListener("keydown", onKey);
document.addEventListener("click", onClick);
const asked = thread.querySelector(".turn[data-interaction]:last-of-type");
const since = Date.now() - new Date(/** @type {HTMLTimeElement | null} */ (asked?.querySelector("time[datetime]"))?.dateTime ?? Date.now()).getTime();
if (since > 30 * 60 * 1000) outcome(asked, "return");
for (const [name, on] of /** @type {[string, boolean][]} */ ([["pointerover", true], ["focusin", true], ["pointerout", false], ["focusout", false]])) {
  thread.addEventListener(name, light(on));
}
stopButton.addEventListener("click", () => running?.abort());
field.addEventListener("input", () => setText(field.value));
if (!field.value) setText(sessionStorage.getItem(DRAFT) ?? "");
if (room.dataset.ready !== "yes") waitUntilReady();
else if (matchMedia("(min-width: 900px)").matches && !location.hash) field.focus({ preventScroll: true });
