// Shows how far an import is: a bar on a terminal, a line now and then elsewhere.
import { SingleBar } from "cli-progress";
import { visible } from "../output.js";
import type { Input } from "./input.js";

/** Where an import says how far it is. All of it goes to stderr. */
export interface Progress {
  /** So many bytes of all inputs together are done, and so many conversations. */
  update(bytes: number, conversations: number): void;
  /** Says something that stays, one line. */
  note(text: string): void;
  stop(): void;
}

const LINE_EVERY_MS = 10_000;

/** A bar where stderr is a terminal and the inputs' sizes are known, else a line every 10 s. */
export function showProgress(inputs: readonly Input[]): Progress {
  const sizes = inputs.map((input) => input.size);
  const total = sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  return process.stderr.isTTY && !sizes.includes(undefined) && total > 0
    ? new Bar(total)
    : new Lines(sizes.includes(undefined) ? undefined : total);
}

class Bar implements Progress {
  readonly #bar: SingleBar;

  constructor(total: number) {
    this.#bar = new SingleBar({
      format: "{bar} {percentage}%  {conversations} conversations  {eta_formatted} to go",
      stream: process.stderr,
      barCompleteChar: "█",
      barIncompleteChar: "░",
      barsize: 30,
      clearOnComplete: true,
      stopOnComplete: false,
      hideCursor: false,
      // The command stops it, at a signal too.
      gracefulExit: false,
      etaBuffer: 100,
    });
    this.#bar.start(total, 0, { conversations: 0 });
  }

  update(bytes: number, conversations: number): void {
    this.#bar.update(bytes, { conversations: conversations.toLocaleString("en") });
  }

  note(text: string): void {
    // Takes the bar's line; the bar draws itself anew below.
    process.stderr.write(`\r\x1b[K${visible(text)}\n`);
    this.#bar.render();
  }

  stop(): void {
    this.#bar.stop();
  }
}

class Lines implements Progress {
  readonly #total: number | undefined;
  #last = performance.now();

  constructor(total: number | undefined) {
    this.#total = total;
  }

  update(bytes: number, conversations: number): void {
    if (performance.now() - this.#last < LINE_EVERY_MS) return;
    this.#last = performance.now();
    const part = this.#total ? `, ${Math.floor((bytes / this.#total) * 100)}%` : "";
    this.note(`… ${conversations.toLocaleString("en")} conversations${part}`);
  }

  note(text: string): void {
    process.stderr.write(`${visible(text)}\n`);
  }

  stop(): void {}
}
