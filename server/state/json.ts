// Tells JSON text from other text without making values of it: JSON.parse of a few megabytes of
// brackets holds everybody up for a second or more.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const NONE = -1;

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// What need not be looked at in a string, up to its end or an escape.
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

/** Whether a text is JSON (RFC 8259): one value of any kind, nested as deeply as it may be. */
export function isJson(text: string): boolean {
  // The closing brackets that are due, the innermost one last.
  const due: number[] = [];
  let at = skip(SPACE, text, 0);
  for (;;) {
    // A value begins here.
    const opening = text.charCodeAt(at);
    if (opening === OPEN_ARRAY || opening === OPEN_OBJECT) {
      const closing = opening === OPEN_ARRAY ? CLOSE_ARRAY : CLOSE_OBJECT;
      at = afterSpace(text, at + 1);
      if (text.charCodeAt(at) !== closing) {
        due.push(closing);
        if (closing === CLOSE_OBJECT) at = afterKey(text, at);
        if (at === NONE) return false;
        continue;
      }
      at++;
    } else {
      at = opening === QUOTE ? afterString(text, at) : afterScalar(text, at);
      if (at === NONE) return false;
    }
    // It has ended, and with it all that closes now.
    at = afterSpace(text, at);
    while (due.length > 0 && text.charCodeAt(at) === due.at(-1)) {
      due.pop();
      at = afterSpace(text, at + 1);
    }
    if (due.length === 0) return at === text.length;
    if (text.charCodeAt(at) !== COMMA) return false;
    at = afterSpace(text, at + 1);
    if (due.at(-1) === CLOSE_OBJECT) at = afterKey(text, at);
    if (at === NONE) return false;
  }
}

function afterKey(text: string, start: number): number {
  const end = afterString(text, start);
  if (end === NONE) return NONE;
  const colon = afterSpace(text, end);
  return text.charCodeAt(colon) === COLON ? afterSpace(text, colon + 1) : NONE;
}

function afterString(text: string, start: number): number {
  if (text.charCodeAt(start) !== QUOTE) return NONE;
  for (let at = start + 1; ; ) {
    at = skip(PLAIN, text, at);
    const unit = text.charCodeAt(at);
    if (unit === QUOTE) return at + 1;
    if (unit !== BACKSLASH) return NONE;
    const end = skip(ESCAPE, text, at);
    if (end === at) return NONE;
    at = end;
  }
}

function afterScalar(text: string, start: number): number {
  const end = skip(SCALAR, text, start);
  return end === start ? NONE : end;
}

// Most of the time there is none.
function afterSpace(text: string, start: number): number {
  return text.charCodeAt(start) <= 0x20 ? skip(SPACE, text, start) : start;
}

/** Where what matches from here ends; here, if nothing does. */
function skip(pattern: RegExp, text: string, start: number): number {
  pattern.lastIndex = start;
  return pattern.test(text) ? pattern.lastIndex : start;
}
