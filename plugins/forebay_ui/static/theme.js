// Follows Airflow's theme before anything is painted. Without JavaScript the system's theme decides.
"use strict";
(() => {
  const apply = () => {
    let theme = "system";
    try { theme = localStorage.getItem("theme") || "system"; } catch { /* storage may be closed to us */ }
    const root = document.documentElement.classList;
    root.toggle("dark", theme === "dark");
    root.toggle("light", theme === "light");
  };
  apply();
  addEventListener("storage", apply);
  try {
    if (parent !== window) {
      new MutationObserver(apply).observe(parent.document.documentElement, { attributeFilter: ["class"] });
    }
  } catch { /* framed by another origin */ }
})();
