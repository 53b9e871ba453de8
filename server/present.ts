// States what earlier checks or a statement's form guarantee.

/**
 * Returns a value that cannot be missing here.
 *
 * @throws Error, a defect of the service, if it is
 */
export function present<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("a value is missing");
  return value;
}
