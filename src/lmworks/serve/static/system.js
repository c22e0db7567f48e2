// The figures on health stay current while the page is looked at; a stage that is named in the address is opened.

const EVERY = 5000; // milliseconds

async function refresh() {
  const health = document.getElementById("health");
  if (!health || document.hidden || health.dataset.live !== "ready") return;
  try {
    const response = await fetch("/system");
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("health");
    if (fresh) health.replaceWith(fresh);
  } catch {
    // The server is away: the figures stay as they were, and the next look will tell.
  }
}

function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const details = target && target.closest("details");
  if (details && !details.open) {
    details.open = true;
    target.scrollIntoView();
  }
}

setInterval(refresh, EVERY);
addEventListener("hashchange", reveal);
reveal();
