// Values that only the server can give, held against what they may be.

/** A time that the server gave, when it is a possible one; else one that no answer equals. */
export function within(time: Date | undefined, { from, to }: { from: number; to: number }): Date {
  const ms = time?.getTime() ?? Number.NaN;
  return new Date(ms >= from && ms <= to ? ms : Number.NaN);
}

/** A time in milliseconds as a Date. */
export function dateOf(ms: bigint | undefined): Date | undefined {
  return ms === undefined ? undefined : new Date(Number(ms));
}

/** An id that the server gave, when it is higher than all before; else one that no answer has. */
export function rising(id: bigint | undefined, before: bigint): bigint {
  return id !== undefined && id > before ? id : before;
}

/** A refusal, with the metadata of its reason. */
export function refused(
  reason: string,
  names: Record<string, bigint | undefined>,
): { reason: string; metadata: Record<string, string> } {
  const entries = Object.entries(names).map(([name, value]) => [name, String(value)]);
  return { reason, metadata: Object.fromEntries(entries) };
}
