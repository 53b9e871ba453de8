// Vectors: what may be one, and how they are kept.
import { limits } from "../config.js";

/** What is wrong with a vector; place is that of the number which is, if it is one. */
export interface VectorFault {
  place?: number;
  description: string;
}

/** Looks for what is wrong with a vector: its length, numbers that are none, no direction. */
export function vectorFault(values: ArrayLike<number>): VectorFault | undefined {
  if (values.length === 0 || values.length > limits.embeddingDimensions) {
    return { description: `must have 1 to ${limits.embeddingDimensions} numbers` };
  }
  let hasDirection = false;
  for (let place = 0; place < values.length; place++) {
    // As they are kept: a double that is too large for a float is infinite there.
    const value = Math.fround(values[place] ?? 0);
    if (!Number.isFinite(value)) return { place, description: "must be a finite number" };
    if (value !== 0) hasDirection = true;
  }
  return hasDirection ? undefined : { description: "must not be all zeros" };
}

/** A vector's direction: the vector of length 1, so that cosines are scalar products. */
export function direction(values: ArrayLike<number>): Float32Array {
  let most = 0;
  for (let place = 0; place < values.length; place++) {
    most = Math.max(most, Math.abs(values[place] ?? 0));
  }
  // Divided first, as squares of very large or small numbers are no numbers any more.
  const scaled = Float64Array.from(values, (value) => value / most);
  const length = Math.sqrt(scaled.reduce((sum, value) => sum + value * value, 0));
  return Float32Array.from(scaled, (value) => value / length);
}

/** A vector's columns: the numbers of its direction, and their code in units of a scale. */
export function vectorValues(values: ArrayLike<number>): [number[], Buffer, number] {
  const unit = direction(values);
  const most = unit.reduce((greatest, value) => Math.max(greatest, Math.abs(value)), 0);
  const scale = most / CODE_MOST;
  const code = Int8Array.from(unit, (value) => Math.round(value / scale));
  return [Array.from(unit), Buffer.from(code.buffer), scale];
}

/** The scalar product of a vector and a code, in units of the code's scale. */
export function codeProduct(query: Float32Array, code: Int8Array): number {
  let sum = 0;
  for (let place = 0; place < query.length; place++) {
    sum += (query[place] as number) * (code[place] as number);
  }
  return sum;
}

/** The scalar product of two vectors. */
export function product(a: Float32Array, b: ArrayLike<number>): number {
  let sum = 0;
  for (let place = 0; place < a.length; place++) sum += (a[place] as number) * (b[place] as number);
  return sum;
}

/** The largest number of a code. */
const CODE_MOST = 127;
