// HYBRID: what FULL_TEXT and SEMANTIC find, fused by the places that it has with each.
//
// Reciprocal rank fusion: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet
// and individual Rank Learning Methods", SIGIR 2009. Scores of the two cannot be compared; places can.
import type { CallContext } from "../rpc/call.js";
import { fullTextOf } from "./full-text.js";
import type { Found, Search } from "./mode.js";
import { compareRanked, type Ranked, readRanked } from "./ranking.js";
import { countPending, rankByMeaning } from "./semantic.js";

/** How little the first places count more than the next ones: the paper's constant. */
const SMOOTHING = 60;

/** Finds a page. */
export async function readHybrid(context: CallContext, search: Search): Promise<Found> {
  const { searchFused } = context.limits;
  const fullText = await fullTextOf(context, search);
  const [byWords, byMeaning] = await Promise.all([
    fullText.rank(searchFused),
    rankByMeaning(context, search, searchFused),
  ]);
  const [page, pending] = await Promise.all([
    readRanked(context, search, fuse([byWords, byMeaning])),
    countPending(context),
  ]);
  const unread = search.lag.changed + search.lag.unfilled;
  return { ...page, unindexed: pending > unread ? pending : unread, snippets: fullText.snippets };
}

/** Fuses rankings, each best first. */
export function fuse(rankings: readonly (readonly Ranked[])[]): Ranked[] {
  const fused = new Map<string, { key: Ranked; score: number }>();
  for (const ranking of rankings) {
    for (const [place, key] of ranking.entries()) {
      const text = `${key.conversation_id}/${key.seq}`;
      const score = (fused.get(text)?.score ?? 0) + 1 / (SMOOTHING + place + 1);
      fused.set(text, { key, score });
    }
  }
  return [...fused.values()]
    .map(({ key, score }) => ({ ...key, score: BigInt(Math.round(1e6 * score)) }))
    .sort(compareRanked);
}
