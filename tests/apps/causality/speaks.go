package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// connections is how many a load has that does not put all on one.
const connections = 4

// serveAs serves what all shapes are registered with, by what SPEAKS says.
func serveAs(port string, shapes map[string]caller) error {
	address := "127.0.0.1:" + port
	server := http.Server{Addr: address, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	certificate, key := os.Getenv("FRONT_CERTIFICATE"), os.Getenv("FRONT_KEY")
	switch speaks, _, _ := strings.Cut(os.Getenv("SPEAKS"), " "); speaks {
	case "h2c":
		return server.ListenAndServe()
	case "h2":
		server.Protocols.SetHTTP2(true)
		return server.ListenAndServeTLS(certificate, key)
	case "module-h2c":
		handler := h2c.NewHandler(http.DefaultServeMux, new(http2.Server))
		return http.ListenAndServe(address, handler)
	case "grpc":
		return calls(address, shapes)
	case "grpc-workers":
		return calls(address, shapes, grpc.NumStreamWorkers(workers))
	case "grpc-tls":
		secret, err := credentials.NewServerTLSFromFile(certificate, key)
		if err != nil {
			return err
		}
		return calls(address, shapes, grpc.Creds(secret))
	default:
		return http.ListenAndServe(address, nil)
	}
}

// plainBytes are messages that are bytes.
type plainBytes struct{}

func (plainBytes) Marshal(said any) ([]byte, error) { return *said.(*[]byte), nil }
func (plainBytes) Unmarshal(bytes []byte, said any) error {
	*said.(*[]byte) = append([]byte(nil), bytes...)
	return nil
}
func (plainBytes) Name() string { return "raw" }

// calls serves the shapes by gRPC: `/SHAPE/NUMBER`.
func calls(address string, shapes map[string]caller, options ...grpc.ServerOption) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return answering(func(ctx context.Context, method string) error {
		words := strings.Split(method, "/")
		made, known := shapes[words[1]]
		if !known {
			return fmt.Errorf("no shape: %s", method)
		}
		return made(ctx, words[2])
	}, options...).Serve(listener)
}

// answering answers each call with what it says, when that is done.
func answering(done func(ctx context.Context, method string) error, options ...grpc.ServerOption) *grpc.Server {
	handler := func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var said []byte
		if err := stream.RecvMsg(&said); err != nil {
			return err
		}
		if err := done(stream.Context(), method); err != nil {
			return err
		}
		return stream.SendMsg(&said)
	}
	return grpc.NewServer(append(options, grpc.ForceServerCodec(plainBytes{}), grpc.UnknownServiceHandler(handler))...)
}

// dialed is a channel to a port.
func dialed(port string, secret bool) *grpc.ClientConn {
	how := insecure.NewCredentials()
	if secret {
		how = credentials.NewTLS(trusting.Clone())
	}
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(how))
	must(err)
	return conn
}

func invoke(ctx context.Context, conn *grpc.ClientConn, method string) error {
	said, answer := []byte("word"), []byte(nil)
	return conn.Invoke(ctx, method, &said, &answer, grpc.ForceCodec(plainBytes{}))
}

// byCalls makes so many calls at once by gRPC, all of them over one channel.
func byCalls(port string, secret bool, many int) caller {
	conn := dialed(port, secret)
	return func(ctx context.Context, id string) error {
		var all sync.WaitGroup
		failed := make([]error, many)
		ask := func(which int) { failed[which] = invoke(ctx, conn, "/leaf/"+call(id, which)) }
		for which := range many - 1 {
			all.Go(func() { ask(which) })
		}
		ask(many - 1)
		all.Wait()
		for _, err := range failed {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// asker is how one of a load's clients asks for a path, if not by HTTP/1.1.
func asker(port string) func(at int) func(path string) error {
	speaks, one, _ := strings.Cut(os.Getenv("SPEAKS"), " ")
	many := connections
	if one == "one" {
		many = 1
	}
	if strings.HasPrefix(speaks, "grpc") {
		channels := make([]*grpc.ClientConn, many)
		for at := range channels {
			channels[at] = dialed(port, speaks == "grpc-tls")
		}
		return func(at int) func(path string) error {
			return func(path string) error {
				return invoke(context.Background(), channels[at%many], path)
			}
		}
	}
	base, transport := "http://127.0.0.1:"+port, http2.Transport{AllowHTTP: true, DialTLSContext: plain}
	switch speaks {
	case "h2":
		base, transport = "https://127.0.0.1:"+port, http2.Transport{TLSClientConfig: trusting}
	case "h2c", "module-h2c":
	default:
		return nil
	}
	clients := make([]http.Client, many)
	for at := range clients {
		own := http2.Transport{
			AllowHTTP: transport.AllowHTTP, DialTLSContext: transport.DialTLSContext,
			TLSClientConfig: transport.TLSClientConfig,
		}
		clients[at].Transport = &own
	}
	return func(at int) func(path string) error {
		return func(path string) error { return ask(&clients[at%many], base+path) }
	}
}
