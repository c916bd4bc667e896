// What links and forms cannot do alone. Every page works without this file.
"use strict";
(() => {
  // Airflow's own pages open in Airflow's window, not in our frame: its router listens for popstate.
  document.addEventListener("click", (event) => {
    // As a tab of Airflow's page of a run only that run's pages stay in the frame: the others open in Lake.
    const airflow = document.body.dataset.tab;
    const ours = airflow === undefined ? null : event.target.closest?.(`a[href^="${airflow}/forebay/"]:not([data-stay])`);
    // Airflow's frame may open no window, and other sites do not let themselves be framed: Airflow's window opens them.
    const out = event.target.closest?.("a[rel=external]");
    if (out && parent !== window) {
      event.preventDefault();
      const opener = parent.document.createElement("a");
      Object.assign(opener, { href: out.href, target: "_blank", rel: "noopener noreferrer" });
      opener.click();
      return;
    }
    const link = event.target.closest?.("a[data-airflow]") ?? ours;
    if (!link || parent === window || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const place = ours === link ? `${airflow}/plugin/lake${link.getAttribute("href").slice(airflow.length)}` : link.href;
    parent.history.pushState(null, "", place);
    parent.dispatchEvent(new PopStateEvent("popstate", { state: null }));
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    event.preventDefault();
    (document.querySelector("main input[type=search]") ?? document.querySelector(".find input"))?.focus();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // In a frame, and without TLS, the clipboard is closed: select the text instead.
      getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
      button.textContent = "Press Ctrl+C";
      return;
    }
    button.textContent = "Copied";
  });
  for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;

  // Search as one types: the same page is asked for, and the part of it that changes is taken over.
  for (const form of document.querySelectorAll("form[data-live]")) {
    const field = form.querySelector("input[type=search]");
    const place = document.getElementById(form.dataset.live);
    let timer, asking;
    field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        asking?.abort();
        asking = new AbortController();
        const url = new URL(form.action);
        url.search = new URLSearchParams(new FormData(form)).toString();
        try {
          const answer = await fetch(url, { signal: asking.signal, credentials: "same-origin" });
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById(place.id);
          if (!fresh) return;
          place.replaceChildren(...fresh.childNodes);
          history.replaceState(null, "", url);
        } catch (error) {
          if (error.name !== "AbortError") form.submit();
        }
      }, 120);
    });
  }
})();
