// LangChain's PostgresChatMessageHistory: a row for each message, written one after the other.
import { PostgresChatMessageHistory } from "@langchain/community/stores/message/postgres";
import { AIMessage, HumanMessage } from "@langchain/core/messages";
import pg from "pg";
import { contents, servePeer } from "../dist/bench/lib/line-jobs.js";

let pool;
const counts = new Map();

// One for each session: a new one asks whether its table is there.
const histories = new Map();
const of = (messages, index) => histories.get(`${messages}-${index % counts.get(messages)}`);
const turn = (count) =>
  contents(count).map((text, n) => (n % 2 === 0 ? new HumanMessage(text) : new AIMessage(text)));

await servePeer({
  async prepare({ databaseUrl, sizes }) {
    pool = new pg.Pool({ connectionString: databaseUrl, max: 16 });
    for (const { messages, sessions } of sizes) {
      counts.set(messages, sessions);
      for (let n = 0; n < sessions; n++) {
        const sessionId = `${messages}-${n}`;
        const history = new PostgresChatMessageHistory({ sessionId, pool });
        await history.ensureTable();
        histories.set(sessionId, history);
        // By hand: by addMessages() ten thousand would take long.
        await pool.query(
          `INSERT INTO langchain_chat_histories (session_id, message)
           SELECT $1, jsonb_build_object('type', CASE WHEN n % 2 = 0 THEN 'human' ELSE 'ai' END,
                    'content', content, 'additional_kwargs', '{}'::jsonb,
                    'response_metadata', '{}'::jsonb)
             FROM unnest($2::text[]) WITH ORDINALITY AS d (content, n)`,
          [sessionId, contents(messages)],
        );
      }
    }
    // The package makes no index; whoever uses it in earnest makes this one.
    await pool.query("CREATE INDEX ON langchain_chat_histories (session_id, id)");
    await pool.query("ANALYZE langchain_chat_histories");
  },
  async append(messages, index) {
    await of(messages, index).addMessages(turn(6));
    return 6;
  },
  last: async (messages, index) => (await of(messages, index).getMessages()).slice(-20).length,
  all: async (messages, index) => (await of(messages, index).getMessages()).length,
  end: () => pool.end(),
});
