// "Check all" in place: each row tells its state as its check goes on. Without this file the form opens a page of its own.
"use strict";
(() => {
  const form = document.querySelector("form[data-check-all]");
  const table = document.getElementById("connections");
  if (!form || !table) return;
  const rows = new Map([...table.querySelectorAll("tr[data-connection]")].map((row) => [row.dataset.connection, row]));

  const say = (row, state, word) => {
    const badge = document.createElement("span");
    badge.className = `state ${state}`;
    badge.textContent = word;
    row.querySelector(".outcome").replaceChildren(badge);
  };
  const took = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);

  const tell = (event, count) => {
    const row = rows.get(event.connection_id);
    if (!row) return;
    if (event.step) say(row, "run", event.step.title);
    if (!event.report) return;
    say(row, event.report.state, event.report.word);
    row.querySelector(".took").textContent = took(event.report.seconds);
    row.querySelector(".checked").textContent = "just now";
    count[event.report.state] += 1;
  };

  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const button = form.querySelector("button");
    const tally = document.getElementById("tally");
    const count = { ok: 0, warn: 0, bad: 0 };
    button.disabled = true;
    button.textContent = "Checking…";
    try {
      const answer = await fetch(form.dataset.checkAll, {
        method: "POST",
        credentials: "same-origin",
        headers: { "x-forebay-csrf": form.elements.csrf.value },
      });
      if (!answer.ok) throw new Error((await answer.json()).detail);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) tell(JSON.parse(line), count);
        const all = count.ok + count.warn + count.bad;
        tally.textContent = `${all} checked: ${count.ok} work, ${count.warn} only in part, ${count.bad} do not.`;
      }
      button.textContent = "Check all again";
    } catch (error) {
      tally.textContent = `The check broke off: ${error.message}`;
      button.textContent = "Check all";
    }
    button.disabled = false;
  });
})();
