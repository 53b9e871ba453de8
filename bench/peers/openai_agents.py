"""The SQLAlchemySession of the OpenAI Agents SDK."""

import asyncio

from agents.extensions.memory.sqlalchemy_session import SQLAlchemySession
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from serve import contents, serve


def turn(count):
    roles = ["user", "assistant"]
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents(count))]


class Peer:
    async def prepare(self, job):
        url = make_url(job["databaseUrl"])
        self.engine = create_async_engine(url.set(drivername="postgresql+asyncpg"))
        self.counts = {size["messages"]: size["sessions"] for size in job["sizes"]}
        for messages, sessions in self.counts.items():
            for n in range(sessions):
                session = self.session(messages, n, create_tables=True)
                for start in range(0, messages, 1000):
                    await session.add_items(turn(min(1000, messages - start)))

    def session(self, messages, index, create_tables=False):
        name = f"{messages}-{index % self.counts[messages]}"
        return SQLAlchemySession(name, engine=self.engine, create_tables=create_tables)

    async def append(self, messages, index):
        await self.session(messages, index).add_items(turn(6))
        return 6

    async def last(self, messages, index):
        return len(await self.session(messages, index).get_items(limit=20))

    async def all(self, messages, index):
        return len(await self.session(messages, index).get_items())


asyncio.run(serve(Peer()))
