// franz-go under the client contract of conformance/README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 30 * time.Second

// Bytes travel as base64 in JSON; a nil slice is null.
type record struct {
	Codec     string               `json:"codec,omitempty"`
	Topic     string               `json:"topic"`
	Partition int32                `json:"partition"`
	Offset    int64                `json:"offset"`
	Key       []byte               `json:"key"`
	Value     []byte               `json:"value"`
	Headers   [][2]json.RawMessage `json:"headers"`
	Timestamp int64                `json:"timestamp"`
}

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func write(bootstrap, topic, path string) {
	file, err := os.Open(path)
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	clients := map[string]*kgo.Client{}
	var sent []*kgo.Record
	for input := json.NewDecoder(file); input.More(); {
		var r record
		check(input.Decode(&r))
		client := clients[r.Codec]
		if client == nil {
			// One codec is finished before the next begins: offsets follow the order of the file.
			for _, earlier := range clients {
				check(earlier.Flush(ctx))
			}
			client, err = kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ProducerBatchCompression(codecs[r.Codec]),
				kgo.RecordPartitioner(kgo.ManualPartitioner()))
			check(err)
			defer client.Close()
			clients[r.Codec] = client
		}
		out := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value,
			Timestamp: time.UnixMilli(r.Timestamp)}
		for _, pair := range r.Headers {
			var header kgo.RecordHeader
			check(json.Unmarshal(pair[0], &header.Key))
			check(json.Unmarshal(pair[1], &header.Value))
			out.Headers = append(out.Headers, header)
		}
		client.Produce(ctx, out, func(_ *kgo.Record, err error) { check(err) })
		sent = append(sent, out)
	}
	for _, client := range clients {
		check(client.Flush(ctx))
	}
	for _, r := range sent {
		fmt.Printf("{\"partition\":%d,\"offset\":%d}\n", r.Partition, r.Offset)
	}
}

func read(bootstrap, count string, topics []string) {
	want, err := strconv.Atoi(count)
	check(err)
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topics...))
	check(err)
	defer client.Close()
	buffered := bufio.NewWriter(os.Stdout)
	defer buffered.Flush()
	out := json.NewEncoder(buffered)
	for seen := 0; seen < want; {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		fetches := client.PollFetches(ctx)
		cancel()
		check(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			headers := [][2]json.RawMessage{}
			for _, header := range r.Headers {
				name, err := json.Marshal(header.Key)
				check(err)
				value, err := json.Marshal(header.Value)
				check(err)
				headers = append(headers, [2]json.RawMessage{name, value})
			}
			check(out.Encode(record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key,
				Value: r.Value, Headers: headers, Timestamp: r.Timestamp.UnixMilli()}))
			seen++
		})
	}
}

func main() {
	switch args := os.Args[1:]; args[0] {
	case "write":
		write(args[1], args[2], args[3])
	case "read":
		read(args[1], args[2], args[3:])
	default:
		log.Fatalf("unknown command %s", args[0])
	}
}
