// The plot of orders per second; the text below it tells the same.
"use strict";

{
  const box = document.getElementById("flow-plot");
  const language = document.documentElement.lang;
  const hour = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const amount = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  let plot;
  let drawn = "";

  const colour = (selector, pseudo) => {
    const style = getComputedStyle(document.querySelector(selector), pseudo);
    return pseudo ? style.backgroundColor : style.color;
  };

  function columns({ from, step, arrived, ended }) {
    const perSecond = (count) => (count === null ? null : count / step);
    return [arrived.map((_, index) => from + index * step), arrived.map(perSecond), ended.map(perSecond)];
  }

  function begin(data) {
    plot?.destroy();
    const soft = colour(".key");
    const line = colour("#flow-plot");
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const series = (selector) => ({ stroke: colour(selector, "::before"), width: 2, points: { show: false } });
    plot = new uPlot(
      {
        width: box.clientWidth,
        height: box.clientHeight,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_, _low, high) => [0, Math.max(1, high * 1.1)] } },
        axes: [
          { ...axis, size: 30, grid: { show: false }, values: (_, times) => times.map((time) => hour.format(time * 1000)) },
          { ...axis, size: 44, values: (_, rates) => rates.map((rate) => amount.format(rate)) },
        ],
        series: [{}, series(".key.arrived"), series(".key.ended")],
      },
      data,
      box,
    );
  }

  function draw(anew) {
    const course = document.getElementById("flow-rates").dataset.course;
    if (!anew && course === drawn) return;
    drawn = course;
    const data = columns(JSON.parse(course));
    if (anew || !plot) begin(data);
    else plot.setData(data);
  }

  document.addEventListener("console:fresh", ({ target }) => {
    if (target === document.body) draw(true);
    else if (target.id === "flow-rates") draw(false);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(true));
  new ResizeObserver(() => plot?.setSize({ width: box.clientWidth, height: box.clientHeight })).observe(box);
  draw(true);
}
