// LangGraph's checkpointer: a session is a thread whose whole state is written with each turn.
// The state is taken to be in memory already, and a turn to be one checkpoint: both favour it.
import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { uuid6 } from "@langchain/langgraph-checkpoint";
import { PostgresSaver } from "@langchain/langgraph-checkpoint-postgres";
import { contents, servePeer } from "../dist/bench/lib/line-jobs.js";

let saver;
const states = new Map();

const turn = (count) =>
  contents(count).map((text, n) => (n % 2 === 0 ? new HumanMessage(text) : new AIMessage(text)));
const key = (messages, index) => `${messages}-${index % states.get(messages)}`;
const config = (thread) => ({ configurable: { thread_id: thread, checkpoint_ns: "" } });

async function put(thread, messages) {
  const state = states.get(thread) ?? { messages: [], version: 0, config: config(thread) };
  state.messages = [...state.messages, ...messages];
  state.version++;
  const checkpoint = {
    v: 4,
    id: uuid6(state.version),
    ts: new Date().toISOString(),
    channel_values: { messages: state.messages },
    channel_versions: { messages: state.version },
    versions_seen: {},
  };
  const metadata = { source: "loop", step: state.version, parents: {} };
  state.config = await saver.put(state.config, checkpoint, metadata, { messages: state.version });
  states.set(thread, state);
}

async function load(messages, index) {
  const tuple = await saver.getTuple(config(key(messages, index)));
  return tuple.checkpoint.channel_values.messages;
}

await servePeer({
  async prepare({ databaseUrl, sizes }) {
    saver = PostgresSaver.fromConnString(databaseUrl);
    await saver.setup();
    for (const { messages, sessions } of sizes) {
      states.set(messages, sessions);
      for (let n = 0; n < sessions; n++) await put(`${messages}-${n}`, turn(messages));
    }
  },
  async append(messages, index) {
    await put(key(messages, index), turn(6));
    return 6;
  },
  last: async (messages, index) => (await load(messages, index)).slice(-20).length,
  all: async (messages, index) => (await load(messages, index)).length,
  end: () => saver.end(),
});
