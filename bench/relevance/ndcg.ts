// nDCG: how near a ranking is to the best one that is possible, 0 to 1.

/** How many places of a ranking count. */
const PLACES = 10;

/**
 * nDCG at 10 with gains of 2^grade - 1.
 *
 * @param ranking keys, best first
 * @param relevant the grades of those that have one above 0; at least one
 */
export function ndcg(ranking: string[], relevant: Record<string, number>): number {
  const grades = ranking.map((key) => relevant[key] ?? 0);
  const best = Object.values(relevant).sort((a, b) => b - a);
  return discountedGain(grades) / discountedGain(best);
}

function discountedGain(grades: number[]): number {
  return grades
    .slice(0, PLACES)
    .reduce((sum, grade, place) => sum + (2 ** grade - 1) / Math.log2(place + 2), 0);
}
