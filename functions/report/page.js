"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data-of-charts").textContent);
  const root = document.documentElement;
  const number = new Intl.NumberFormat("en");
  const short = new Intl.NumberFormat("en", { notation: "compact" });
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  const times = data.labels.map((label) => new Date(label));
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

  // A label at the start of a day, or of every sixth hour where there are few days; as many as have room.
  const isMark = (time) => !data.hourly || time.getUTCHours() % (times.length > 72 ? 24 : 6) === 0;
  const marks = times.map((_, index) => index).filter((index) => isMark(times[index]));
  const ticks = (axis) => {
    const step = Math.max(1, Math.ceil((marks.length * 62) / axis.width));
    axis.ticks = marks.filter((_, index) => index % step === 0).map((value) => ({ value }));
  };
  const tickLabel = (index) => {
    const time = times[index];
    return data.hourly && time.getUTCHours() !== 0 ? hour.format(time) : day.format(time);
  };
  const title = ([item]) => {
    const time = times[item.dataIndex];
    return data.hourly ? `${day.format(time)}, ${hour.format(time)} UTC, one hour` : `${day.format(time)} UTC`;
  };

  const draw = (name) =>
    new Chart(document.getElementById(name), {
      type: "bar",
      data: {
        labels: data.labels,
        datasets: data[name].map((series) => ({
          ...series,
          backgroundColor: colour(series.colour),
          barPercentage: 0.92,
          categoryPercentage: 1,
        })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: {
            stacked: true,
            afterBuildTicks: ticks,
            grid: { display: false },
            ticks: { autoSkip: false, maxRotation: 0, callback: tickLabel },
          },
          y: {
            stacked: true,
            beginAtZero: true,
            border: { display: false },
            ticks: { maxTicksLimit: 5, precision: 0, callback: (value) => short.format(value) },
          },
        },
        plugins: {
          legend: { display: false },
          colors: { enabled: false },
          tooltip: {
            callbacks: { title, label: (item) => ` ${item.dataset.label}: ${number.format(item.parsed.y)}` },
          },
        },
      },
    });

  const dress = (chart) => {
    for (const series of chart.data.datasets) {
      series.backgroundColor = colour(series.colour);
    }
    for (const axis of Object.values(chart.options.scales)) {
      axis.ticks.color = colour("soft");
      axis.grid.color = colour("grid");
      axis.border = { ...axis.border, color: colour("line") };
    }
    chart.update();
  };

  const charts = ["sending", "engagement"].map(draw);
  const dressAll = () => charts.forEach(dress);
  dressAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", dressAll);
  addEventListener("beforeprint", () => {
    root.dataset.print = "";
    dressAll();
    charts.forEach((chart) => chart.resize());
  });
  addEventListener("afterprint", () => {
    delete root.dataset.print;
    dressAll();
    charts.forEach((chart) => chart.resize());
  });
})();
