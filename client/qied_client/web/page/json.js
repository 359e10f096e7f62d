// JSON whose seeds may have more digits than a number of JavaScript keeps: those become text.
export function parsed(text) { return JSON.parse(text.replace(/"seed": ?(\d{16,})/g, '"seed":"$1"')); }
