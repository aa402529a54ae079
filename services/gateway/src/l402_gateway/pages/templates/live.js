// Keeps the page as it is: counts down by itself, and reads the page again when the gateway hints that something happened.
(() => {
  "use strict";
  const SOON_MS = 1500, POLL_MS = 15000, MAIN = () => document.getElementById("main");
  let skew = Number(MAIN().dataset.now) - Date.now(), hints = null, round = "", soon = 0;

  const say = (kind, words) => {
    const live = document.getElementById("live");
    live.querySelector("i").className = "dot " + kind;
    live.querySelector("span").textContent = words;
  };

  const tick = () => {
    const now = Date.now() + skew;
    for (const timer of document.querySelectorAll("[role=timer]")) {
      const left = Math.max(0, Math.ceil((timer.dataset.until - now) / 1000));
      timer.textContent = Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
    }
    for (const bar of document.querySelectorAll("rect[data-until]")) {
      const {from, until} = bar.dataset;
      bar.setAttribute("width", 200 * Math.min(1, Math.max(0, (now - from) / (until - from))));
    }
  };

  // Only what is different is replaced, and nothing that somebody has focused.
  const show = (text) => {
    const next = new DOMParser().parseFromString(text, "text/html"), main = next.getElementById("main");
    if (!main) return;
    Object.assign(MAIN().dataset, main.dataset);
    document.title = next.title;
    const parts = (root) => [...root.querySelectorAll("section[id]")];
    const ids = (root) => parts(root).map((one) => one.id).join();
    if (ids(main) !== ids(MAIN())) return MAIN().replaceChildren(...main.children);
    for (const part of parts(main)) {
      const old = document.getElementById(part.id);
      if (!old.contains(document.activeElement) && old.outerHTML !== part.outerHTML) old.replaceWith(part);
    }
  };

  const read = async () => {
    soon = 0;
    try {
      const answer = await fetch(location.href, {cache: "no-store"});
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.text());
      skew = Number(MAIN().dataset.now) - Date.now();
      tick();
      listen();
      const live = hints && hints.readyState === EventSource.OPEN;
      say(live ? "on" : "wait", live ? "live" : "read every 15 s");
    } catch {
      say("bad", "not answering");
    }
  };

  const hurry = () => { if (!soon) soon = setTimeout(read, SOON_MS + 500 * Math.random()); };

  const listen = () => {
    const wanted = MAIN().dataset.round;
    if (wanted === "0" || document.hidden || (hints && wanted === round && hints.readyState !== EventSource.CLOSED)) return;
    if (hints) hints.close();
    round = wanted;
    hints = new EventSource("/v1/rounds/" + round + "/events");
    hints.onopen = () => say("on", "live");
    hints.onerror = () => say("wait", "connecting again");
    for (const name of document.body.dataset.hints.split(" ")) hints.addEventListener(name, hurry);
  };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return void read();
    if (hints) hints.close();
    hints = null;
  });
  setInterval(tick, 1000);
  setInterval(() => { if (!document.hidden) read(); }, POLL_MS);
  listen();
})();
