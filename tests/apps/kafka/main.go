// franz-go: BROKER TOPIC; `ready`, then a list of deeds for each line, `done` after each.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func client(broker, name string, more ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(more,
		kgo.SeedBrokers(broker),
		kgo.ClientID(name),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)...)
	check(err)
	return client
}

func message(topic string, partition int32, number int, value []byte) *kgo.Record {
	context := fmt.Sprintf("00-%032x-%016x-01", number, number)
	return &kgo.Record{
		Topic:     topic,
		Partition: partition,
		Key:       []byte("key"),
		Value:     value,
		Headers: []kgo.RecordHeader{
			{Key: "kind", Value: []byte("test")},
			{Key: "traceparent", Value: []byte(context)},
		},
	}
}

func main() {
	ctx := context.Background()
	broker, topic := os.Args[1], os.Args[2]
	plain := client(broker, "go-plain", kgo.ProducerBatchCompression(kgo.NoCompression()))
	gzip := client(broker, "go-gzip", kgo.ProducerBatchCompression(kgo.GzipCompression()))
	_, err := kadm.NewClient(plain).CreateTopic(ctx, 3, 1, nil, topic)
	check(err)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		check(plain.ProduceSync(ctx, message(topic, 0, 1, []byte("one"))).FirstErr())
		check(plain.ProduceSync(ctx,
			message(topic, 1, 2, []byte("some")),
			message(topic, 1, 3, []byte("some")),
			message(topic, 1, 4, []byte("some"))).FirstErr())
		small := make([]byte, 500)
		check(gzip.ProduceSync(ctx,
			message(topic, 2, 5, small),
			message(topic, 2, 6, small),
			message(topic, 2, 7, small)).FirstErr())
		if plain.ProduceSync(ctx, message(topic, 0, 10, make([]byte, 200_000))).FirstErr() == nil {
			panic("too large, and taken")
		}
		consumer := client(broker, "go-consumer",
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
				topic: {1: kgo.NewOffset().AtStart()},
			}))
		for left := 3; left > 0; {
			fetches := consumer.PollFetches(ctx)
			check(fetches.Err())
			left -= fetches.NumRecords()
		}
		consumer.Close()
		fmt.Println("done")
	}
}
