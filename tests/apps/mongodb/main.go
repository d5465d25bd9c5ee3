// A server (FerretDB, on SQLite) and a client (the Go driver), in one program as they are built of the same.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	if os.Args[1] == "client" {
		client(os.Args[2])
		return
	}
	config := &ferretdb.Config{
		Handler:   "sqlite",
		SQLiteURL: "file:./",
		Logger:    slog.New(slog.DiscardHandler),
	}
	config.Listener.TCP = "127.0.0.1:" + os.Args[2]
	if len(os.Args) > 3 {
		config.Listener.Unix = os.Args[3]
	}
	server, err := ferretdb.New(config)
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := server.Run(ctx); err != nil {
		panic(err)
	}
}
