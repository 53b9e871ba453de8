// SUBSTRING: messages that contain a text, whatever its case, newest first.
import type { CallContext } from "../rpc/call.js";
import type { Scope } from "./filter.js";
import type { Found, Search } from "./mode.js";
import { type Match, positionOf, readNewestFirst, readPosition } from "./newest-first.js";
import { findText, makeSnippet } from "./snippet.js";

/** Finds a page. */
export async function readSubstring(context: CallContext, search: Search): Promise<Found> {
  const { scope, query, lag, sessions, position, size } = search;
  const match = containing(scope, query);
  const before = readPosition(position);
  const page = { scope, match, lag, sessions, before, most: size + 1 };
  return {
    rows: await readNewestFirst(context, page),
    positionOf,
    async snippets(messages) {
      return messages.map(({ content }) => {
        const characters = [...content];
        const hits = findText(characters, query);
        return makeSnippet(characters, hits, context.limits.snippetCharacters);
      });
    },
  };
}

/**
 * What contains a text. All compare lower case with lower case, as Postgres makes it and as its ILIKE
 * does.
 */
function containing({ tenant, modelId }: Scope, text: string): Match {
  const pattern = `%${text.replace(/[\\%_]/g, "\\$&")}%`;
  return {
    indexed: (place) => `s.body LIKE lower(${place.of(pattern)}::text)`,
    inverted: (place) => `(
      agentstore_grams(s.tenant_id, s.model_id, s.body)
        @@ agentstore_gram_query(${place.of(tenant)}, ${place.of(modelId)}, lower(${place.of(text)}))
      OR s.long)`,
    fresh: (place) => `s.content COLLATE "default" ILIKE ${place.of(pattern)}`,
    bounded: (source) => source,
    includesUnfilled: true,
  };
}
