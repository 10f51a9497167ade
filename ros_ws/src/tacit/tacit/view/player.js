(() => {
  const root = document.currentScript.parentElement;
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const [bar, out, play] = ["input", "output", "button"].map((name) => root.querySelector(name));
  const cells = root.querySelectorAll(".cell"), body = root.querySelector("tbody");
  const rows = data.names.map((name) => {
    const row = body.insertRow();
    row.insertCell().textContent = name;
    return [row.insertCell(), row.insertCell()];
  });
  const last = data.seconds.length - 1, place = (i, count) => (count > 1 ? (100 * i) / (count - 1) : 0);
  let timer = 0;
  const show = (frame) => {
    const i = Math.min(Math.max(frame, 0), last);
    const x = place(i % data.columns, data.columns), y = place(Math.floor(i / data.columns), data.rows);
    cells.forEach((cell) => (cell.style.backgroundPosition = `${x}% ${y}%`));
    rows.forEach(([state, action], j) => {
      state.textContent = data.state[i][j].toFixed(3);
      action.textContent = data.action[i][j].toFixed(3);
    });
    bar.value = i;
    out.textContent = [`${data.seconds[i].toFixed(2)} s`, data.words[i], data.step[i]].filter(Boolean).join(" · ");
    root.dataset.frame = i;
  };
  const stop = () => { clearTimeout(timer); timer = 0; play.textContent = "▶"; };
  const run = () => {
    const i = Number(bar.value);
    if (i >= last) return stop();
    timer = setTimeout(() => { show(i + 1); run(); }, 1000 * (data.seconds[i + 1] - data.seconds[i]));
  };
  const toggle = () => {
    if (timer) return stop();
    if (Number(bar.value) >= last) show(0);
    play.textContent = "❚❚";
    run();
  };
  const keys = {
    ArrowLeft: () => show(Number(bar.value) - 1), ArrowRight: () => show(Number(bar.value) + 1),
    Home: () => show(0), End: () => show(last), " ": toggle,
  };
  bar.addEventListener("input", () => { stop(); show(Number(bar.value)); });
  play.addEventListener("click", toggle);
  document.addEventListener("keydown", (event) => {
    // Of several players the keys move the one that was clicked last, or the first on the page.
    const chosen = document.activeElement && document.activeElement.closest(".player");
    if ((chosen || document.querySelector(".player")) !== root) return;
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (event.key !== " ") stop();
    keys[event.key]();
  });
  show(0);
})();
