// The NATS server as its own program starts it, and a client on nats.go.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	switch os.Args[1] {
	case "server":
		serve(os.Args[2:])
	case "stream":
		stream(os.Args[2])
	default:
		client(os.Args[2])
	}
}

func serve(words []string) {
	flags := flag.NewFlagSet("nats-server", flag.ExitOnError)
	options, err := server.ConfigureOptions(flags, words, server.PrintServerAndExit, flags.Usage, server.PrintTLSHelpAndDie)
	check(err)
	running, err := server.NewServer(options)
	check(err)
	running.ConfigureLogger()
	check(server.Run(running))
	running.WaitForShutdown()
}

// A responder and an asker, each with a connection of its own.
func client(url string) {
	answers, err := nats.Connect(url)
	check(err)
	asks, err := nats.Connect(url)
	check(err)
	done := make(chan string, 16)
	_, err = answers.QueueSubscribe("live.orders.*", "workers", func(m *nats.Msg) {
		if m.Reply != "" {
			time.Sleep(20 * time.Millisecond)
			check(m.Respond([]byte("fine")))
		}
		done <- m.Subject
	})
	check(err)
	check(answers.Flush())
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	check(asks.Publish("live.orders.new", []byte("one")))
	message := nats.NewMsg("live.orders.traced")
	message.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	message.Data = []byte("two")
	check(asks.PublishMsg(message))
	_, err = asks.Request("live.orders.asked", []byte("three"), 5*time.Second)
	check(err)
	_, err = asks.Request("live.nobody", nil, 5*time.Second)
	if !errors.Is(err, nats.ErrNoResponders) {
		check(fmt.Errorf("%v", err))
	}
	check(asks.Publish("live.orders.big", make([]byte, 200_000)))
	for range 4 {
		<-done
	}
	check(asks.Flush())
	check(answers.Flush())
	fmt.Println("done")
	bufio.NewReader(os.Stdin).ReadString('\n')
}

// A stream, a message in it, and who fetches and acknowledges it.
func stream(url string) {
	c, err := nats.Connect(url)
	check(err)
	js, err := jetstream.New(c)
	check(err)
	wait, end := context.WithTimeout(context.Background(), 10*time.Second)
	defer end()
	_, err = js.CreateStream(wait, jetstream.StreamConfig{Name: "LIVE", Subjects: []string{"kept.>"}, Storage: jetstream.MemoryStorage})
	check(err)
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	_, err = js.Publish(wait, "kept.orders", []byte("one"))
	check(err)
	_, err = js.Publish(wait, "kept.orders", []byte("two"))
	check(err)
	consumer, err := js.CreateConsumer(wait, "LIVE", jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy})
	check(err)
	batch, err := consumer.Fetch(2)
	check(err)
	number := 0
	for message := range batch.Messages() {
		number++
		if number == 1 {
			check(message.DoubleAck(wait))
		} else {
			check(message.Nak())
		}
	}
	check(batch.Error())
	check(c.Flush())
	fmt.Println("done")
	bufio.NewReader(os.Stdin).ReadString('\n')
}
