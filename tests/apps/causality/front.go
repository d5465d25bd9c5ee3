package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/net/http2"
)

// pool is how many connections a small pool has, and workers how many goroutines work for all.
const pool, workers = 4, 8

// a caller makes the calls of a request, in its shape.
type caller func(ctx context.Context, id string) error

// a handler is a caller that answers too.
type handler func(w http.ResponseWriter, r *http.Request) error

// front serves every shape.
func front(port, leaf, cache, database string) error {
	base := "http://127.0.0.1:" + leaf + "/leaf/"
	secret := "https://127.0.0.1:" + leaf + "/leaf/"
	small := &http.Transport{MaxConnsPerHost: pool, MaxIdleConnsPerHost: pool}
	direct := by(http.DefaultTransport, base)
	tcp, tls := dialing(leaf)
	query, err := queries(database)
	if err != nil {
		return err
	}
	shapes := map[string]caller{
		"direct":     direct,
		"sleep":      sleep(base),
		"small-pool": by(small, base),
		"fan-out":    fanOut(base),
		"redis":      keys(cache),
		"sql":        query,
		"worker":     worker(direct),
		"grown":      grown(direct),
		"written":    written(leaf),
		"tree":       tree(base),
		"teeming":    teeming(direct),
		"late":       late(direct),
		"h2":         by(&http2.Transport{AllowHTTP: true, DialTLSContext: plain}, base),
		"h2-tls":     by(&http2.Transport{TLSClientConfig: trusting}, secret),
		"https":      by(&http.Transport{TLSClientConfig: trusting, TLSNextProto: oldOnly}, secret),
		"reused":     reused(base, tcp),
		"tls-reused": reused(secret, tls),
		"wrapped":    by(&http.Transport{DialContext: wrap}, base),
		"closing":    by(&http.Transport{DisableKeepAlives: true}, base),
		"nested":     nested("http://127.0.0.1:" + port),
		"timeout":    timeout("http://127.0.0.1:" + leaf),

		"grpc":         byCalls(leaf, false, 1),
		"grpc-fan-out": byCalls(leaf, false, 5),
		"grpc-tls":     byCalls(leaf, true, 1),
	}
	for shape, made := range shapes {
		serve("/"+shape+"/{id}", made.answer)
	}
	serve("/nested/{id}/{call}", direct.answer)
	serve("/post/{id}", post(base))
	serve("/flushed/{id}", flushed(direct, base))
	serve("/hijack/{id}", hijack(base))
	http.Handle("/proxy/{id}", proxy(base))
	if path := os.Getenv("FRONT_SOCKET"); path != "" {
		unix, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		go http.Serve(unix, nil)
	}
	return serveAs(port, shapes)
}

func serve(path string, answer handler) {
	http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if err := answer(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
}

// answer is a word, after the calls.
func (made caller) answer(w http.ResponseWriter, r *http.Request) error {
	if err := made(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	_, err := io.WriteString(w, "front\n")
	return err
}

// by makes one call, by connections of its kind.
func by(connections http.RoundTripper, base string) caller {
	client := &http.Client{Transport: connections}
	return func(_ context.Context, id string) error { return ask(client, base+call(id, 0)) }
}

// call is how a call says for which request it is made.
func call(id string, which int) string {
	return fmt.Sprintf("call-%s-%d", id, which)
}

func plain(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, address)
}

// sleep leaves its thread before each of two calls.
func sleep(base string) caller {
	return func(_ context.Context, id string) error {
		for which := range 2 {
			time.Sleep(time.Duration(1+rand.IntN(20)) * time.Millisecond)
			if err := ask(http.DefaultClient, base+call(id, which)); err != nil {
				return err
			}
		}
		return nil
	}
}

// fanOut makes five calls at once, a goroutine each.
func fanOut(base string) caller {
	return func(_ context.Context, id string) error {
		var all sync.WaitGroup
		failed := make([]error, 5)
		for which := range failed {
			all.Go(func() { failed[which] = ask(http.DefaultClient, base+call(id, which)) })
		}
		all.Wait()
		for _, err := range failed {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// keys asks Redis twice, one after the other.
func keys(port string) caller {
	options := redis.Options{Addr: "127.0.0.1:" + port, PoolSize: pool}
	// Otherwise a server that does not know them costs a connection.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewClient(&options)
	return func(ctx context.Context, id string) error {
		for which := range 2 {
			err := client.Get(ctx, call(id, which)).Err()
			if err != nil && err != redis.Nil {
				return err
			}
		}
		return nil
	}
}

// queries asks PostgreSQL once, by the extended protocol without a statement that is kept.
func queries(port string) (caller, error) {
	where := []string{
		"host=127.0.0.1", "port=" + port, "user=app", "dbname=shop", "sslmode=disable",
		"default_query_exec_mode=exec",
	}
	db, err := sql.Open("pgx", strings.Join(where, " "))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(pool)
	return func(ctx context.Context, id string) error {
		var said string
		return db.QueryRowContext(ctx, "SELECT '"+call(id, 0)+"'").Scan(&said)
	}, nil
}

// worker gives the call to one of some goroutines that live as long as the program.
func worker(made caller) caller {
	type job struct {
		id   string
		done chan<- error
	}
	jobs := make(chan job)
	for range workers {
		go func() {
			for one := range jobs {
				one.done <- made(context.Background(), one.id)
			}
		}()
	}
	return func(_ context.Context, id string) error {
		done := make(chan error)
		jobs <- job{id, done}
		return <-done
	}
}

// late answers at once, and calls when that is over.
func late(made caller) caller {
	return func(_ context.Context, id string) error {
		go func() {
			time.Sleep(20 * time.Millisecond)
			must(made(context.Background(), id))
		}()
		return nil
	}
}
