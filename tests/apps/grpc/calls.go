// Command calls is a gRPC server and client on grpc-go. Messages are bytes: no stubs are made.
//
//	calls server PORT [CERTIFICATE KEY]
//	calls client PORT [AUTHORITY]
//	calls load PORT SECONDS CHANNELS AT-ONCE [AUTHORITY]
//
// The client reads lines, KIND METHOD [COUNT AT-ONCE], and makes these calls on one channel. The load
// is unary calls, so many at once on each channel; it prints how many were answered.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func main() {
	files := 3
	if os.Args[1] == "load" {
		files = 6
	}
	credentials, err := security(os.Args[files:])
	address := "127.0.0.1:" + os.Args[2]
	if err == nil {
		switch os.Args[1] {
		case "server":
			err = serve(address, credentials)
		case "load":
			err = load(address, credentials, os.Args[3:6])
		default:
			err = ask(address, credentials)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func security(files []string) (credentials.TransportCredentials, error) {
	switch len(files) {
	case 0:
		return insecure.NewCredentials(), nil
	case 1:
		return credentials.NewClientTLSFromFile(files[0], "")
	default:
		return credentials.NewServerTLSFromFile(files[0], files[1])
	}
}

// raw passes bytes as they are.
type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "proto" }

func kind(method string) string {
	kind, _, _ := strings.Cut(method[strings.LastIndex(method, "/")+1:], "_")
	return kind
}

func serve(address string, credentials credentials.TransportCredentials) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Creds(credentials), grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(answer))
	return server.Serve(listener)
}

func answer(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	kind := kind(method)
	var all []byte
	for {
		var message []byte
		if err := stream.RecvMsg(&message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		all = append(all, message...)
		if kind == "Both" {
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}
	switch kind {
	case "Both":
		return nil
	case "Fails":
		return status.Error(codes.NotFound, "no such thing")
	case "Breaks":
		return errors.New("a bug")
	case "Slow":
		time.Sleep(500 * time.Millisecond)
	case "Scatter":
		for range 4 {
			if err := stream.SendMsg(&all); err != nil {
				return err
			}
		}
	case "Lasts":
		for range 3 {
			if err := stream.SendMsg(&all); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	if err := stream.SendMsg(&all); err != nil {
		return err
	}
	switch kind {
	case "FailsLate":
		return status.Error(codes.Unavailable, "went away")
	case "Cancels":
		<-stream.Context().Done()
	}
	return nil
}

func open(address string, credentials credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(credentials),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
}

// load makes as many calls as go in SECONDS, on CHANNELS, AT-ONCE on each.
func load(address string, credentials credentials.TransportCredentials, words []string) error {
	var numbers [3]int
	for at, word := range words {
		number, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		numbers[at] = number
	}
	end := time.Now().Add(time.Duration(numbers[0]) * time.Second)
	var answered atomic.Int64
	ends := make(chan error)
	for range numbers[1] {
		channel, err := open(address, credentials)
		if err != nil {
			return err
		}
		for range numbers[2] {
			go func() {
				var err error
				for err == nil && time.Now().Before(end) {
					if err = call(channel, "Unary", "/bench.Load/Unary"); err == nil {
						answered.Add(1)
					}
				}
				ends <- err
			}()
		}
	}
	for range numbers[1] * numbers[2] {
		if err := <-ends; err != nil {
			return err
		}
	}
	fmt.Println(answered.Load())
	return nil
}

func ask(address string, credentials credentials.TransportCredentials) error {
	channel, err := open(address, credentials)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 2 {
			fmt.Println(many(channel, words[0], words[1], words[2], words[3]))
		} else {
			fmt.Println(outcome(call(channel, words[0], words[1])))
		}
	}
	return nil
}

// many makes COUNT calls, METHOD_0 and on, AT-ONCE at a time.
func many(channel *grpc.ClientConn, kind, method, count, atOnce string) string {
	total, _ := strconv.Atoi(count)
	width, _ := strconv.Atoi(atOnce)
	var next atomic.Int64
	ends := make(chan string)
	for range width {
		go func() {
			worst := "OK"
			for at := next.Add(1); at <= int64(total); at = next.Add(1) {
				if got := outcome(call(channel, kind, fmt.Sprintf("%s_%d", method, at-1))); got != "OK" {
					worst = got
				}
			}
			ends <- worst
		}()
	}
	worst := "OK"
	for range width {
		if got := <-ends; got != "OK" {
			worst = got
		}
	}
	return worst
}

func call(channel *grpc.ClientConn, kind, method string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if kind == "Slow" {
		ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
	}
	desc := &grpc.StreamDesc{
		ClientStreams: kind == "Gather" || kind == "Both",
		ServerStreams: kind == "Scatter" || kind == "Both" || kind == "FailsLate" || kind == "Lasts" || kind == "Cancels",
	}
	message := []byte("piece")
	if !desc.ClientStreams && !desc.ServerStreams {
		return channel.Invoke(ctx, method, &message, &message)
	}
	stream, err := channel.NewStream(ctx, desc, method)
	if err != nil {
		return err
	}
	pieces := 1
	if desc.ClientStreams {
		pieces = 3
	}
	for range pieces {
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		err := stream.RecvMsg(&message)
		if err == io.EOF || err == nil && !desc.ServerStreams {
			return nil
		} else if err != nil {
			return err
		}
		if kind == "Cancels" {
			cancel()
		}
	}
}

// outcome is the code as the specification spells it.
func outcome(err error) string {
	switch name := status.Code(err).String(); name {
	case "OK":
		return name
	case "Canceled":
		return "CANCELLED"
	default:
		return strings.ToUpper(words.ReplaceAllString(name, "${1}_${2}"))
	}
}

var words = regexp.MustCompile("([a-z])([A-Z])")
