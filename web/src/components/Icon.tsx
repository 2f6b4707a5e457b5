/** Line icons of one weight, drawn for 20 × 20. Decorative: the name of a control is its label. */
const PATHS = {
  plus: "M10 4v12M4 10h12",
  search: "M9 3.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM13 13l3.5 3.5",
  close: "M5 5l10 10M15 5L5 15",
  panel: "M3.5 4.5h13v11h-13zM8 4.5v11",
  more: "M4 9.6h.8v.8H4zM9.6 9.6h.8v.8h-.8zM15.2 9.6h.8v.8h-.8z",
  pin: "M12.5 3.5l4 4-3 1-3 3-.5 3.5-5-5 3.5-.5 3-3zM7.5 12.5L4 16",
  edit: "M4 16l.8-3.2L13.5 4a1.7 1.7 0 0 1 2.4 2.4L7.2 15.2z",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
  download: "M10 3.5v9M6.5 9.5L10 13l3.5-3.5M4 16.5h12",
  settings: "M3.5 6h7M14 6h2.5M3.5 14h2.5M9.5 14h7M10.5 4h3.5v4h-3.5zM6 12h3.5v4H6z",
  cluster: "M10 7.5v3M10 10.5l-5 2.5M10 10.5l5 2.5M8 3.5h4v4H8zM3 13h4v3.5H3zM13 13h4v3.5h-4z",
  keyboard: "M2.5 5.5h15v9h-15zM5.5 8.5h.01M8.5 8.5h.01M11.5 8.5h.01M14.5 8.5h.01M6.5 11.5h7",
  send: "M10 16V4.5M5 9.5l5-5 5 5",
  stop: "M5.5 5.5h9v9h-9z",
  copy: "M7.5 7.5h8.5V16H7.5zM12.5 7.5V4H4v8.5h3.5",
  redo: "M15.5 10a5.5 5.5 0 1 1-1.7-4M16 3.5v3.6h-3.6",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  arrowDown: "M10 4v12M5 11l5 5 5-5",
  play: "M7 5l8 5-8 5z",
  sliders: "M4 6.5h12M4 13.5h12M7.5 4.5v4M12.5 11.5v4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 18 }: { name: IconName; size?: number }) {
  return (
    <svg
      className="icon"
      width={size}
      height={size}
      viewBox="0 0 20 20"
      fill={name === "stop" ? "currentColor" : "none"}
      stroke="currentColor"
      strokeWidth="1.6"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
