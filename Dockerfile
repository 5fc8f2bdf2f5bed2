# Bulkhead's workers and command line. Never built where it was written: see docker-compose.yml.
FROM node:20.19.5-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Scripts of packages are not run: the one that matters, our own build, comes when the sources are there.
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm prune --omit=dev --ignore-scripts

FROM node:20.19.5-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/storage/migrations ./storage/migrations
USER node
ENTRYPOINT ["node", "dist/workers/main.js"]
CMD ["--help"]
