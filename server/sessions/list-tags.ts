// ListTags: the tags of a tenant's sessions, with how many have each.
import type { ListTagsRequest, ListTagsResponse } from "../../gen/agentstore/v1/sessions.js";
import type { UnaryRpc } from "../rpc/method.js";
import { decodeTextPageToken, encodeTextPageToken } from "../rpc/page-token.js";
import * as sql from "./labels-sql.js";

const QUERY = ["ListTags"];

export const listTags: UnaryRpc<ListTagsRequest, ListTagsResponse> = {
  validate({ pageSize }, check, limits) {
    check.within("page_size", pageSize, 0, limits.pageSizeMost);
  },

  async handle({ pageSize, pageToken }, { db, principal, signal, limits }) {
    const after = decodeTextPageToken(pageToken, QUERY) ?? "";
    const size = pageSize || limits.pageSizeDefault;
    const list = db.shards ? sql.listTagsOfShards : sql.listTags;
    const rows = await db.query(list, [principal.tenant, after, size + 1], signal);
    const page = rows.slice(0, size);
    const last = page.at(-1);
    const more = last !== undefined && rows.length > page.length;
    return {
      tags: page.map(({ tag, sessions }) => ({ tag, sessionCount: sessions })),
      nextPageToken: more ? encodeTextPageToken(QUERY, last.tag) : "",
    };
  },
};
