// Reads an MCAP file with the packages that Foxglove's viewer is made of, by its indexes and from start to end,
// and says everything it found as one JSON object.
//
// node read_mcap.js FILE

import { createHash } from "node:crypto";
import { open, readFile } from "node:fs/promises";

import rosmsg from "@foxglove/rosmsg";
import serialization from "@foxglove/rosmsg2-serialization";
import { McapIndexedReader, McapStreamReader } from "@mcap/core";
import { FileHandleReadable } from "@mcap/nodejs";
import { loadDecompressHandlers } from "@mcap/support";

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const decoders = new Map();

function message(record, channel, schema) {
  if (!decoders.has(schema.id)) {
    const definitions = rosmsg.parse(new TextDecoder().decode(schema.data), { ros2: true });
    decoders.set(schema.id, new serialization.MessageReader(definitions));
  }
  const decoded = decoders.get(schema.id).readMessage(record.data);
  const stamp = decoded.header?.stamp ?? decoded.timestamp;
  return {
    topic: channel.topic,
    type: schema.name,
    sequence: record.sequence,
    logTime: String(record.logTime),
    publishTime: String(record.publishTime),
    sha256: sha256(record.data),
    stamp: stamp ? [stamp.sec, stamp.nanosec] : null,
  };
}

const path = process.argv[2];
const decompressHandlers = await loadDecompressHandlers();
const handle = await open(path, "r");
const indexed = await McapIndexedReader.Initialize({
  readable: new FileHandleReadable(handle),
  decompressHandlers,
});
const byIndex = [];
for await (const record of indexed.readMessages({ validateCrcs: true })) {
  const channel = indexed.channelsById.get(record.channelId);
  byIndex.push(message(record, channel, indexed.schemasById.get(channel.schemaId)));
}
const attachments = [];
for await (const record of indexed.readAttachments({ validateCrcs: true })) {
  attachments.push({ name: record.name, mediaType: record.mediaType, sha256: sha256(record.data) });
}
const metadata = [];
for await (const record of indexed.readMetadata()) {
  metadata.push({ name: record.name, values: Object.fromEntries(record.metadata) });
}
await handle.close();

const stream = new McapStreamReader({ decompressHandlers, validateCrcs: true });
stream.append(await readFile(path));
const channels = new Map();
const schemas = new Map();
const inOrder = [];
for (let record; (record = stream.nextRecord()); ) {
  if (record.type === "Schema") {
    schemas.set(record.id, record);
  } else if (record.type === "Channel") {
    channels.set(record.id, record);
  } else if (record.type === "Message") {
    const channel = channels.get(record.channelId);
    inOrder.push(message(record, channel, schemas.get(channel.schemaId)));
  }
}

const statistics = indexed.statistics;
process.stdout.write(
  JSON.stringify({
    profile: indexed.header.profile,
    done: stream.done(),
    messageCount: Number(statistics.messageCount),
    chunkCount: statistics.chunkCount,
    byIndex,
    inOrder,
    attachments,
    metadata,
    qos: Object.fromEntries(
      [...indexed.channelsById.values()].map((c) => [c.topic, c.metadata.get("offered_qos_profiles") ?? ""]),
    ),
  }),
);
