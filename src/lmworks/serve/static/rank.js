// Ranks by dragging and by keys. They live in the selects of the form, which work without this script.

const cards = () => /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#ranked > li")]);
/** @param {HTMLElement} card */
const select = (card) => /** @type {HTMLSelectElement} */ (card.querySelector("select"));
/** @param {HTMLElement} card */
const rank = (card) => Number(select(card).value);

/** Gives one card a rank, also a half one between two, closes the gaps, and shows the cards in their order.
 * @param {HTMLElement} moved @param {number} wanted */
function place(moved, wanted) {
  const wish = new Map(cards().map((card) => [card, card === moved ? wanted : rank(card)]));
  const steps = [...new Set(wish.values())].sort((a, b) => a - b);
  const sorted = cards().sort((a, b) => wish.get(a) - wish.get(b) || Number(a.dataset.place) - Number(b.dataset.place));
  sorted.forEach((card, at) => {
    select(card).value = String(1 + steps.indexOf(wish.get(card)));
    card.classList.toggle("tied", at > 0 && wish.get(card) === wish.get(sorted[at - 1]));
    card.parentElement?.append(card);
  });
  moved.focus();
}

/** @param {EventTarget | null} target */
const cardOf = (target) => /** @type {HTMLElement | null} */ (target instanceof Element ? target.closest("#ranked > li") : null);

document.addEventListener("change", (event) => {
  const card = cardOf(event.target);
  if (card) place(card, rank(card));
});

document.addEventListener("keydown", (event) => {
  const card = document.activeElement;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const all = cards();
  if ((event.key === "j" || event.key === "k") && all.length && !/^(INPUT|TEXTAREA|SELECT)$/.test(card?.tagName ?? "")) {
    const at = all.indexOf(/** @type {HTMLElement} */ (card));
    all[at < 0 ? 0 : Math.min(Math.max(at + (event.key === "j" ? 1 : -1), 0), all.length - 1)].focus();
  } else if (card instanceof HTMLElement && all.includes(card)) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const alone = all.filter((other) => rank(other) === rank(card)).length === 1;
    if (step) place(card, rank(card) + (alone ? step : step / 2));
    else if (/^[1-9]$/.test(event.key)) place(card, Number(event.key));
    else return;
  } else return;
  event.preventDefault();
});

/** @type {HTMLElement | null} */
let dragged = null;

/** Where on a card the pointer is: -0.5 above it, 0 on it, 0.5 below. @param {HTMLElement} card @param {DragEvent} event */
function side(card, event) {
  const box = card.getBoundingClientRect();
  const at = (event.clientY - box.top) / box.height;
  return at < 1 / 3 ? -0.5 : at > 2 / 3 ? 0.5 : 0;
}

for (const type of ["dragstart", "dragover", "drop", "dragend"])
  document.addEventListener(type, (event) => {
    const card = cardOf(event.target);
    if (!(event instanceof DragEvent)) return;
    if (type === "dragstart") dragged = card;
    cards().forEach((other) => delete other.dataset.drop);
    if (type === "dragend") dragged = null;
    if (!dragged || !card || card === dragged || type === "dragstart") return;
    event.preventDefault();
    if (type === "dragover") card.dataset.drop = { "-0.5": "above", "0": "tie", "0.5": "below" }[String(side(card, event))];
    else place(dragged, rank(card) + side(card, event));
  });
