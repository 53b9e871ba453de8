// Figures: samples by name from interleaved rounds, made into values, ratios and verdicts.
import { median } from "./stats.js";

/** What a figure is to reach. */
export interface Goal {
  atMost?: number;
  atLeast?: number;
}

/** One line of the result. */
export interface Figure {
  group: string;
  name: string;
  /** The median over the rounds. */
  value?: number;
  unit: string;
  /** What the value is compared with, measured in the same rounds. */
  against?: { name: string; value: number };
  /** The median of the rounds' ratios of value to against. */
  ratio?: number;
  /** For the ratio; for the value where there is no ratio. */
  goal?: Goal;
  reached?: boolean;
  /** Why there is no value. */
  skipped?: string;
}

/** The samples of one group: those of a round stand at the same index. */
export class Samples {
  readonly #values = new Map<string, number[]>();

  constructor(readonly group: string) {}

  add(name: string, value: number): void {
    const values = this.#values.get(name);
    if (values) values.push(value);
    else this.#values.set(name, [value]);
  }

  /** A figure that is compared with another one of the same rounds. */
  ratio(
    name: string,
    unit: string,
    of: string,
    to: { name: string; sample: string },
    goal?: Goal,
  ): Figure {
    const values = this.#of(of);
    const bases = this.#of(to.sample);
    const ratio = median(values.map((value, round) => value / (bases[round] ?? Number.NaN)));
    const against = { name: to.name, value: median(bases) };
    const figure: Figure = { group: this.group, name, unit, value: median(values), against, ratio };
    return judged(figure, ratio, goal);
  }

  /** A figure that stands for itself. */
  value(name: string, unit: string, of: string, goal?: Goal): Figure {
    const value = median(this.#of(of));
    return judged({ group: this.group, name, unit, value }, value, goal);
  }

  /** A figure that could not be measured here. */
  skipped(name: string, why: string): Figure {
    return { group: this.group, name, unit: "", skipped: why };
  }

  #of(name: string): number[] {
    return this.#values.get(name) ?? [];
  }
}

function judged(figure: Figure, value: number, goal: Goal | undefined): Figure {
  if (goal === undefined) return figure;
  const { atMost = Number.POSITIVE_INFINITY, atLeast = Number.NEGATIVE_INFINITY } = goal;
  return { ...figure, goal, reached: value <= atMost && value >= atLeast };
}
