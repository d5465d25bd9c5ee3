// Command apart is two programs on Go's net/http that stand at the ends of a chain of programs, each of
// which asks the next for each request that it serves. All requests are the same but for a number in the
// header X-Cause, which is handed on to whoever is asked, and is in keys and statements as call-NUMBER-WHICH:
// whoever sees both knows which caused which. The programs between are hop.js, asynced.py and threaded.py,
// which take the words HOST PORT NEXT [CERTIFICATE KEY].
//
//	apart load NEXT AT-ONCE MANY
//	apart hop HOST PORT NEXT REDIS POSTGRES [CERTIFICATE KEY]
package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// cause is the header with a request's number, and pool how many connections a pool has.
const cause, pool = "X-Cause", 4

// next is asked by connections that are kept, whatever certificate it has.
var next = http.Client{Transport: &http.Transport{
	MaxIdleConnsPerHost: 64,
	TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
}}

func main() {
	words := os.Args[2:]
	switch os.Args[1] {
	case "load":
		load(words[0], number(words[1]), number(words[2]))
	case "hop":
		hop(net.JoinHostPort(words[0], words[1]), words[2], words[3], words[4], words[5:])
	}
}

// gives is whether what is asked is asked by a goroutine of its own.
var gives = os.Getenv("HOP_GIVES") != ""

// load makes that many requests, so many at once, when standard input has ended. The first comes long before the
// others: who is watched for a second before it is believed was by then, and an agent with nothing to do has looked.
func load(url string, atOnce, many int) {
	_, err := io.Copy(io.Discard, os.Stdin)
	must(err)
	must(ask(url, "0"))
	var last atomic.Int64
	last.Add(1)
	time.Sleep(2 * time.Second)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for at := last.Add(1) - 1; at < int64(many); at = last.Add(1) - 1 {
				must(ask(url, strconv.FormatInt(at, 10)))
			}
		})
	}
	workers.Wait()
}

// hop asks the next, Redis and PostgreSQL, one after the other.
func hop(at, url, cache, database string, secret []string) {
	options := redis.Options{Addr: cache, PoolSize: pool}
	// Otherwise a server that does not know them costs a connection.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	store := redis.NewClient(&options)
	db, err := sql.Open("pgx", "postgres://app@"+database+"/shop?sslmode=disable&default_query_exec_mode=exec")
	must(err)
	db.SetMaxOpenConns(pool)
	db.SetMaxIdleConns(pool)
	calls := func(ctx context.Context, id string) error {
		asked := make(chan error, 1)
		if gives {
			go func() { asked <- ask(url, id) }()
		} else {
			asked <- ask(url, id)
		}
		if err := <-asked; err != nil {
			return err
		}
		if err := store.Get(ctx, "call-"+id+"-1").Err(); err != nil && err != redis.Nil {
			return err
		}
		var said string
		return db.QueryRowContext(ctx, "SELECT 'call-"+id+"-2'").Scan(&said)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if err := calls(r.Context(), r.Header.Get(cause)); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		io.WriteString(w, "hop\n")
	})
	if len(secret) == 2 {
		must(http.ListenAndServeTLS(at, secret[0], secret[1], nil))
	}
	must(http.ListenAndServe(at, nil))
}

// ask reads an answer to its end, so that the connection can be used again.
func ask(url, id string) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set(cause, id)
	answer, err := next.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, answer.Status, text)
	}
	return err
}

func number(word string) int {
	value, err := strconv.Atoi(word)
	must(err)
	return value
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
