// Rows out of parameters that are columns.

/**
 * Makes the select list of rows whose columns are the arrays $1, $2 …; shorter ones, and NULL, are
 * filled up with NULL.
 *
 * The same arrays in one unnest() in FROM would be copied one by one before the first row is there,
 * which costs as much for a column without values as for any other.
 *
 * @param columns the elements' types by the columns' names, in the order of the parameters
 */
export function unnested(columns: Readonly<Record<string, string>>): string {
  return Object.entries(columns)
    .map(([name, type], index) => `unnest($${index + 1}::${type}[]) AS ${name}`)
    .join(", ");
}
