// Numbers and times for people.

const whole = new Intl.NumberFormat("en");
const short = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hour12: false });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export const count = (number, one, many = `${one}s`) =>
  `${whole.format(number)} ${number === 1 ? one : many}`;

export const percent = (share, digits = 0) => `${(share * 100).toFixed(digits)} %`;

export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : `${whole.format(Math.round(value))} ms`;
}

export function seconds(value) {
  if (value < 90) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}

export const secondsBetween = (start, end) => (new Date(end) - new Date(start)) / 1000;

export const dateTime = (iso) => (iso ? short.format(new Date(iso)) : "never");

export const clockTime = (iso) => clock.format(new Date(iso));

export function ago(iso) {
  const minutes = Math.round((new Date(iso) - Date.now()) / 60_000);
  if (minutes > -1) return "just now";
  if (minutes > -60) return relative.format(minutes, "minute");
  if (minutes > -60 * 24) return relative.format(Math.round(minutes / 60), "hour");
  if (minutes > -60 * 24 * 30) return relative.format(Math.round(minutes / 60 / 24), "day");
  return short.format(new Date(iso));
}

export function bytes(size) {
  return size < 1e6 ? `${whole.format(Math.ceil(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
