// kafkajs under the client contract of conformance/README.md.
import { readFileSync } from 'node:fs'
import kafkajs from 'kafkajs'
import Lz4Codec from 'kafkajs-lz4'
import snappyCodec from 'kafkajs-snappy'
import { ZstdCodec } from 'zstd-codec'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs

const PATIENCE_MS = 30_000
// kafkajs makes one batch of all that a send holds for a partition; the broker takes 1 MiB.
const SEND_BYTES = 256 * 1024

const zstd = await new Promise((resolve) => ZstdCodec.run((module) => resolve(new module.Streaming())))
CompressionCodecs[CompressionTypes.Snappy] = snappyCodec
CompressionCodecs[CompressionTypes.LZ4] = new Lz4Codec().codec
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
})
const COMPRESSION = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const unpack = (text) => (text === null ? null : Buffer.from(text, 'base64'))
const pack = (data) => (data === null ? null : data.toString('base64'))
const connect = (bootstrap) =>
  new Kafka({ brokers: [bootstrap], clientId: 'kafkajs', logLevel: logLevel.ERROR })

// kafkajs keeps headers as an object: a name that comes twice has a list of values.
function packHeaders(pairs) {
  const headers = {}
  for (const [name, value] of pairs) (headers[name] ??= []).push(unpack(value))
  return headers
}
const unpackHeaders = (headers) =>
  Object.entries(headers).flatMap(([name, values]) => [values].flat().map((value) => [name, pack(value)]))

// Cuts the records into sends of one codec and a bounded size; a bigger record goes alone.
function* sends(records) {
  let send = []
  let bytes = 0
  for (const record of records) {
    const size = (record.value ?? '').length
    if (send.length > 0 && (record.codec !== send[0].codec || bytes + size > SEND_BYTES)) {
      yield send
      send = []
      bytes = 0
    }
    send.push(record)
    bytes += size
  }
  yield send
}

async function write(bootstrap, topic, path) {
  const records = readFileSync(path, 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line))
  const producer = connect(bootstrap).producer({ createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
  await producer.connect()
  for (const send of sends(records)) {
    const placed = await producer.send({
      topic,
      acks: -1,
      compression: COMPRESSION[send[0].codec],
      messages: send.map((record) => ({
        partition: record.partition,
        key: unpack(record.key),
        value: unpack(record.value),
        headers: packHeaders(record.headers),
        timestamp: String(record.timestamp),
      })),
    })
    const next = new Map(placed.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]))
    for (const { partition } of send) {
      const offset = next.get(partition)
      next.set(partition, offset + 1)
      console.log(JSON.stringify({ partition, offset }))
    }
  }
  await producer.disconnect()
}

// kafkajs reads only as a member of a group: every run has its own.
async function read(bootstrap, count, ...topics) {
  const consumer = connect(bootstrap).consumer({ groupId: `conformance-kafkajs-${process.pid}-${Date.now()}` })
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning: true })
  let seen = 0
  await new Promise((resolve, reject) => {
    const giveUp = () => reject(new Error(`only ${seen} of ${count} records came`))
    let timer = setTimeout(giveUp, PATIENCE_MS)
    const eachMessage = async ({ topic, partition, message: { offset, key, value, headers, timestamp } }) => {
      if (seen === Number(count)) return
      const record = { topic, partition, offset: Number(offset), key: pack(key), value: pack(value) }
      console.log(JSON.stringify({ ...record, headers: unpackHeaders(headers), timestamp: Number(timestamp) }))
      seen += 1
      clearTimeout(timer)
      timer = setTimeout(giveUp, PATIENCE_MS)
      if (seen === Number(count)) {
        clearTimeout(timer)
        resolve()
      }
    }
    consumer.run({ autoCommit: false, eachMessage }).catch(reject)
  })
  await consumer.disconnect()
}

const [command, ...rest] = process.argv.slice(2)
await { write, read }[command](...rest)
