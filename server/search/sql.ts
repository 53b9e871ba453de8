// The statements of search.
import { statement } from "../db/database.js";
import { MESSAGE_BYTES, MESSAGE_COLUMNS, type MessageRow } from "../messages/sql.js";

const COLUMNS = MESSAGE_COLUMNS.join(", ");
const QUALIFIED = MESSAGE_COLUMNS.map((column) => `m.${column}`).join(", ");

const search = (name: string, scope: string) =>
  statement<MessageRow>(
    name,
    `SELECT ${COLUMNS}
       FROM (
         SELECT *, sum(bytes) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING) - bytes AS bytes_before
           FROM (
             SELECT *, ${MESSAGE_BYTES} AS bytes,
                    row_number() OVER (ORDER BY ts_ms DESC NULLS LAST, id DESC) AS place
               FROM (
                 SELECT ${QUALIFIED}
                   FROM conversation_messages AS m
                   JOIN conversations AS c ON c.id = m.conversation_id
                  WHERE c.tenant_id = $1 AND m.content ILIKE $2 AND m.deleted_at IS NULL ${scope}
                  ORDER BY m.ts_ms DESC NULLS LAST, m.id DESC
                  LIMIT $3
               ) AS hits
           ) AS sized
       ) AS page
      WHERE bytes_before < $4
      ORDER BY place`,
  );

export const searchMessages = search("search_messages", "");
export const searchMessagesOfModel = search("search_messages_of_model", "AND c.model_id = $5");
