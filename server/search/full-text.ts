// FULL_TEXT: messages that have words, in any of their forms.
import { SearchOrder } from "../../gen/agentstore/v1/search.js";
import type { CallContext, Limits } from "../rpc/call.js";
import * as best from "./best-first.js";
import type { Scope } from "./filter.js";
import { FRESH_WORDS, freshest, looksLike } from "./fresh-words.js";
import { findWords } from "./highlight.js";
import { rarestOfNewest } from "./look-up.js";
import type { Found, Search } from "./mode.js";
import * as newest from "./newest-first.js";
import { parseQuery } from "./query.js";
import type { Ranked } from "./ranking.js";
import { makeSnippet } from "./snippet.js";
import type { HitRow } from "./sql.js";
import { makeTerms, type Terms } from "./terms.js";

/** Finds a page. */
export async function readFullText(context: CallContext, search: Search): Promise<Found> {
  const { query, language, order } = search;
  const { limits } = context;
  const parsed = parseQuery(query, limits.searchTerms);
  const terms = await makeTerms(context, parsed, query, language);
  if (!terms) return { rows: [], positionOf: newest.positionOf, snippets: async () => [] };
  const read = order === SearchOrder.NEWEST_FIRST ? readNewest : readBest;
  return { ...(await read(context, search, terms)), snippets: snippetsOf(context, terms) };
}

/** The best keys of a query alone, and the snippets of any messages, for HYBRID. */
export async function fullTextOf(
  context: CallContext,
  search: Search,
): Promise<Pick<Found, "snippets"> & { rank: (most: number) => Promise<Ranked[]> }> {
  const { scope, query, language, lag, sessions } = search;
  const parsed = parseQuery(query, context.limits.searchTerms);
  const terms = await makeTerms(context, parsed, query, language);
  return {
    snippets: snippetsOf(context, terms),
    async rank(most) {
      if (!terms) return [];
      const ranking = await best.sampleRanking(context, { scope, terms, lag, sessions });
      const page = { scope, terms, lag, sessions, ranking, before: undefined, most };
      return await best.readBestKeys(context, page);
    },
  };
}

function snippetsOf(context: CallContext, terms: Terms | undefined): Found["snippets"] {
  return async (messages) => {
    const contents = messages.map(({ content }) => content);
    const found = terms ? await findWords(context, terms, contents) : [];
    return contents.map((content, index) =>
      makeSnippet(content, found[index] ?? [], context.limits.snippetCharacters),
    );
  };
}

type Page = Pick<Found, "rows" | "positionOf">;

async function readNewest(context: CallContext, search: Search, terms: Terms): Promise<Page> {
  const { scope, lag, sessions, position, size } = search;
  const match = havingAll(scope, terms, context.limits);
  const before = newest.readPosition(position);
  const page = { scope, match, lag, sessions, before, most: size + 1 };
  return { rows: await newest.readNewestFirst(context, page), positionOf: newest.positionOf };
}

async function readBest(context: CallContext, search: Search, terms: Terms): Promise<Page> {
  const { scope, lag, sessions, position, size } = search;
  const after = best.readPosition(position);
  const ranking =
    after?.ranking ?? (await best.sampleRanking(context, { scope, terms, lag, sessions }));
  const page = { scope, terms, lag, sessions, ranking, before: after?.before, most: size + 1 };
  return {
    rows: await best.readBestFirst(context, page),
    positionOf: (row: HitRow) => best.positionOf(row, ranking),
  };
}

/** What has all terms. */
function havingAll(scope: Scope, terms: Terms, limits: Limits): newest.Match {
  const { tenant, modelId } = scope;
  const { all, patterns } = terms;
  return {
    bounded: (source, conditions, place) =>
      freshest(source, [looksLike(patterns, place), ...conditions], place.of(limits.searchFresh)),
    indexed: (place) => `s.words @@ ${place.of(all)}::tsquery`,
    inverted: (place) => `s.words @@ (SELECT ${rarestOfNewest(terms, scope, place)}
      && agentstore_scope_query(${place.of(tenant)}, ${place.of(modelId)}))`,
    fresh: (place) => `${FRESH_WORDS} @@ ${place.of(all)}::tsquery`,
    includesUnfilled: false,
  };
}
