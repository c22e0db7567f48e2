// A streamed request to /v1/chat/completions: server-sent events as plain values.

/** The server refused, or failed on the way: `retryAfter` is the number of seconds after which to try again. */
export class Refused extends Error {
  /** @param {string} message @param {number} retryAfter */
  constructor(message, retryAfter = 0) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

/** @typedef {{ id: string, text: string, progress: string }} Piece */

/** Asks, and yields what comes; raises `Refused`, TypeError when the connection is lost, AbortError when stopped.
 * @param {Record<string, unknown>} body @param {AbortSignal} signal @returns {AsyncGenerator<Piece, void>} */
export async function* complete(body, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok || !response.body) throw await refusal(response);
  let isDone = false;
  for await (const data of events(response.body)) {
    isDone ||= data === "[DONE]";
    if (data === "[DONE]") continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(sentence(chunk.error.message));
    yield {
      id: String(chunk.id ?? "").replace(/^chatcmpl-/, ""),
      text: chunk.choices?.[0]?.delta?.content ?? "",
      progress: chunk.lmworks?.progress ?? "",
    };
  }
  if (!isDone) throw new TypeError("the stream ended early");
}

/** @param {Response} response */
async function refusal(response) {
  let message = `The server answered ${response.status}.`;
  try {
    message = sentence((await response.json()).error.message);
  } catch {
    // no error of the API: the status must do
  }
  if (response.status === 401) message = "Your sign-in has ended; sign in again.";
  return new Refused(message, Number(response.headers.get("Retry-After") ?? 0) || 0);
}

/** @param {string} text */
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

/** The data of each server-sent event. @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<string, void>} */
async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += decoder.decode(value, { stream: true });
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop() ?? "";
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}
