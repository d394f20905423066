"use strict";
// Asks for the page again when the server says that what it shows has changed; nothing is sent but that question.
const events = new EventSource("events" + location.search);
events.addEventListener("version", async (event) => {
  const main = document.getElementById("main");
  if (!main || event.data === main.dataset.version) return;
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (fresh) { main.replaceWith(fresh); }
});
