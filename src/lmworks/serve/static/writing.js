// Text that arrives in pieces, written into a page: at most once a frame, by text nodes, without moving the reader.

const NEAR = 64; // pixels from the end of the page within which the reader follows the text

/** @typedef {{ name: string, text: string, number?: number }} Part name: "said" or "code" */

/** Changes the page, and stays at its end if the reader is there. @param {() => void} change */
export function following(change) {
  const follows = document.documentElement.scrollHeight - innerHeight - scrollY < NEAR;
  change();
  if (follows) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}

/** Writes into `answer`; `grounded` answers are sentences with the number of their source.
 * @param {HTMLElement} answer @param {boolean} grounded */
export function write(answer, grounded) {
  let text = "";
  let frame = 0;
  const flush = () => {
    frame = 0;
    following(() => reconcile(answer, grounded ? sentences(text) : blocks(text)));
  };
  return {
    /** @param {string} piece */
    add(piece) {
      text += piece;
      frame ||= requestAnimationFrame(flush);
    },
    /** Everything is on the page when this resolves. */
    async done() {
      if (frame) cancelAnimationFrame(frame);
      if (text) flush();
    },
  };
}

/** "Sentence. [1]\nAnother. [2]": only the number that comes next ends a sentence, or follows a block of code.
 * @param {string} text @returns {Part[]} */
export function sentences(text) {
  /** @type {Part[]} */
  const parts = [];
  let number = 1;
  for (const block of blocks(text)) {
    let rest = block.name === "code" ? "" : block.text;
    if (!rest) parts.push(block);
    while (rest) {
      const last = parts.at(-1);
      const mark = `[${number}]`;
      const ends = [rest.indexOf(` ${mark}\n`), rest.endsWith(` ${mark}`) ? rest.length - mark.length - 1 : -1].filter((end) => end >= 0);
      const follows = last?.name === "code" && last.number === undefined && rest.startsWith(mark);
      if (!follows && !ends.length) {
        parts.push({ name: "said", text: rest });
        break;
      }
      const end = follows ? 0 : Math.min(...ends) + 1;
      if (follows) last.number = number;
      else parts.push({ name: "said", text: rest.slice(0, end - 1), number });
      rest = rest.slice(end + mark.length).replace(/^\n+/, "");
      number += 1;
    }
  }
  return parts;
}

/** Running text, and blocks fenced by ```; a block that is not closed goes on to the end.
 * @param {string} text @returns {Part[]} */
export function blocks(text) {
  /** @type {Part[]} */
  const parts = [];
  let place = 0;
  for (const block of text.matchAll(/^ {0,3}(`{3,})[^\n`]*\n([\s\S]*?)(?:^ {0,3}\1`*[ \t]*$\n?|$(?![\s\S]))/gm)) {
    parts.push({ name: "said", text: trimmed(text.slice(place, block.index)) });
    parts.push({ name: "code", text: block[2].replace(/\n$/, "") });
    place = block.index + block[0].length;
  }
  parts.push({ name: "said", text: trimmed(text.slice(place)) });
  return parts.filter((part) => part.text.trim());
}

/** @param {string} text */
const trimmed = (text) => text.replace(/^\n+|\n+$/g, "");

/** Makes the children of `answer` show `parts`, and touches only what has changed.
 * @param {HTMLElement} answer @param {Part[]} parts */
function reconcile(answer, parts) {
  for (const skeleton of answer.querySelectorAll(".skeleton")) skeleton.remove();
  parts.forEach((part, place) => {
    const key = `${part.name}-${part.number ?? ""}`;
    let element = /** @type {HTMLElement | undefined} */ (answer.children[place]);
    if (element?.dataset.key !== key) {
      const made = create(part, key);
      if (element) element.replaceWith(made);
      else answer.append(made);
      element = made;
    }
    const node = /** @type {Text} */ ((element.querySelector("code") ?? element).firstChild);
    if (node.data !== part.text) node.data = part.text;
  });
  while (answer.children.length > parts.length) answer.lastElementChild?.remove();
}

/** @param {Part} part @param {string} key */
function create(part, key) {
  const code = part.name === "code";
  const element = document.createElement(code ? "div" : "p");
  element.dataset.key = key;
  element.className = code ? "code-block" : "said";
  const holder = code ? element.appendChild(document.createElement("pre")).appendChild(document.createElement("code")) : element;
  holder.append(document.createTextNode(part.text));
  if (part.number !== undefined) {
    const mark = element.appendChild(document.createElement("sup")).appendChild(document.createElement("span"));
    mark.className = "cite";
    mark.textContent = String(part.number);
  }
  return element;
}
