// Counts how often each line of a file has come up, in 24 to 48 bytes a line.

/**
 * A count per key in two typed arrays, because a Map takes several times the memory and ends at
 * 2^24 keys, which a large file reaches.
 */
export class Occurrences {
  #keys = new BigUint64Array(1024);
  #counts = new Uint32Array(1024);
  #used = 0;

  /**
   * Counts one more line.
   * @param digest the line's SHA-256. Its first 8 bytes are the key: should two lines ever share
   * them, their numbers still differ and are the same again at the next reading, which is all that
   * is asked of them.
   * @returns 1 for the line's first time, 2 for its second …
   */
  next(digest: Buffer): number {
    if (this.#used * 2 >= this.#keys.length) this.#grow();
    const slot = this.#slot(digest.readBigUInt64LE(0));
    const count = (this.#counts[slot] ?? 0) + 1;
    this.#counts[slot] = count;
    if (count === 1) this.#used += 1;
    return count;
  }

  #slot(key: bigint): number {
    const mask = this.#keys.length - 1;
    let slot = Number(key & BigInt(mask));
    while (this.#counts[slot] !== 0 && this.#keys[slot] !== key) slot = (slot + 1) & mask;
    this.#keys[slot] = key;
    return slot;
  }

  #grow(): void {
    const keys = this.#keys;
    const counts = this.#counts;
    this.#keys = new BigUint64Array(keys.length * 2);
    this.#counts = new Uint32Array(keys.length * 2);
    for (const [index, count] of counts.entries()) {
      if (count > 0) this.#counts[this.#slot(keys[index] ?? 0n)] = count;
    }
  }
}
