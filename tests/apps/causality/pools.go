package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// grown gives the call to a goroutine that is idle, or else to one more, started for it, that goes on to
// work for whoever comes next.
func grown(made caller) caller {
	type job struct {
		id   string
		done chan<- error
	}
	idle := make(chan job)
	return func(_ context.Context, id string) error {
		done := make(chan error)
		one := job{id, done}
		select {
		case idle <- one:
		default:
			go func() {
				for ok := true; ok; one, ok = <-idle {
					one.done <- made(context.Background(), one.id)
				}
			}()
		}
		err := <-done
		// Who made it makes others meanwhile.
		time.Sleep(5 * time.Millisecond)
		return err
	}
}

// a shared connection is written by a goroutine of its own and read by another, both started by whoever
// comes first.
type shared struct {
	once sync.Once
	to   chan turn
}

type turn struct {
	id   string
	done chan error
}

func (s *shared) ask(leaf, id string) error {
	s.once.Do(func() {
		s.to = make(chan turn)
		conn, err := net.Dial("tcp", "127.0.0.1:"+leaf)
		must(err)
		sent, read := make(chan turn, 1), make(chan struct{})
		go func() {
			for one := range s.to {
				fmt.Fprintf(conn, "GET /leaf/%s HTTP/1.1\r\nHost: leaf\r\n\r\n", call(one.id, 0))
				sent <- one
				<-read
			}
		}()
		go func() {
			from := bufio.NewReader(conn)
			for one := range sent {
				answer, err := http.ReadResponse(from, nil)
				if err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
				}
				read <- struct{}{}
				one.done <- err
			}
		}()
	})
	one := turn{id, make(chan error)}
	s.to <- one
	return <-one.done
}

// written asks over a few connections that all share.
func written(leaf string) caller {
	all := make([]shared, workers)
	return func(_ context.Context, id string) error {
		return all[len(id)%workers].ask(leaf, id)
	}
}

// teeming starts more goroutines than can be followed, and asks itself.
func teeming(made caller) caller {
	return func(ctx context.Context, id string) error {
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {})
		}
		all.Wait()
		return made(ctx, id)
	}
}

// tree asks from goroutines that goroutines start, of which those between ask for nothing.
func tree(base string) caller {
	return func(_ context.Context, id string) error {
		failed := make(chan error, 3)
		for which := range 3 {
			go func() {
				go func() {
					go func() { failed <- ask(http.DefaultClient, base+call(id, which)) }()
				}()
			}()
		}
		for range 3 {
			if err := <-failed; err != nil {
				return err
			}
		}
		return nil
	}
}
