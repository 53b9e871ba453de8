"""LangGraph's PostgresSaver. The state is taken to be in memory already, and a turn to be one
checkpoint: both favour it."""

import asyncio

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import Connection
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from serve import contents, serve


def turn(count):
    kinds = [HumanMessage, AIMessage]
    return [kinds[n % 2](content=text) for n, text in enumerate(contents(count))]


class Peer:
    async def prepare(self, job):
        url = make_url(job["databaseUrl"])
        connection = Connection.connect(
            host=url.query["host"],
            user=url.username,
            dbname=url.database,
            autocommit=True,
            prepare_threshold=0,
            row_factory=dict_row,
        )
        self.saver = PostgresSaver(connection)
        self.saver.setup()
        self.states = {}
        self.counts = {size["messages"]: size["sessions"] for size in job["sizes"]}
        for messages, sessions in self.counts.items():
            for n in range(sessions):
                self.put(f"{messages}-{n}", turn(messages))

    def put(self, thread, messages):
        before, version, config = self.states.get(thread, ([], 0, self.config(thread)))
        state, version = before + messages, version + 1
        checkpoint = empty_checkpoint()
        checkpoint["id"] = str(uuid6(clock_seq=version))
        checkpoint["channel_values"] = {"messages": state}
        checkpoint["channel_versions"] = {"messages": version}
        metadata = {"source": "loop", "step": version, "parents": {}}
        config = self.saver.put(config, checkpoint, metadata, {"messages": version})
        self.states[thread] = (state, version, config)

    def config(self, thread):
        return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}

    def thread(self, messages, index):
        return f"{messages}-{index % self.counts[messages]}"

    def load(self, messages, index):
        found = self.saver.get_tuple(self.config(self.thread(messages, index)))
        return found.checkpoint["channel_values"]["messages"]

    async def append(self, messages, index):
        self.put(self.thread(messages, index), turn(6))
        return 6

    async def last(self, messages, index):
        return len(self.load(messages, index)[-20:])

    async def all(self, messages, index):
        return len(self.load(messages, index))


asyncio.run(serve(Peer()))
