# The AgentStore server for a Postgres of the operator's: give it DATABASE_URL.
FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY client/package.json client/
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY gen gen
COPY client client
COPY server server
COPY cli cli
RUN npm run build

FROM node:22-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json ./
COPY client/package.json client/
# The optional packages are the embedded PostgreSQL, which a container has no use for.
RUN npm ci --ignore-scripts --omit=dev --omit=optional && npm cache clean --force
COPY LICENSE NOTICE ./
COPY scripts/healthcheck.mjs scripts/
COPY migrations migrations
COPY gen/agentstore.binpb gen/
COPY --from=build /app/dist dist
# The image's user `node`, by number, so that a cluster can see that it is not root.
USER 1000:1000
EXPOSE 50051 50052
# For a server with TLS, override it: node scripts/healthcheck.mjs HOST:PORT CA-FILE
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "scripts/healthcheck.mjs"]
ENTRYPOINT ["node", "dist/cli/main.js"]
# The server refuses to serve other machines without TLS and tokens, unless --insecure is added.
CMD ["serve", "--host", "0.0.0.0"]
