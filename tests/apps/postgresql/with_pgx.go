// pgx: HOST PORT.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	ctx := context.Background()
	where := fmt.Sprintf("host=%s port=%s user=app dbname=shop sslmode=disable", os.Args[1], os.Args[2])
	db, err := pgx.Connect(ctx, where)
	must(err)
	fmt.Println("ready")
	stdin := bufio.NewReader(os.Stdin)
	_, _ = stdin.ReadString('\n')
	_, err = db.Exec(ctx, "INSERT INTO items (id, name) VALUES ($1, $2)", 101, "secret")
	must(err)
	for _, number := range []int{101, 102} {
		rows, err := db.Query(ctx, "SELECT name FROM items WHERE id = $1", number)
		must(err)
		rows.Close()
	}
	_, _ = db.Exec(ctx, "SELECT * FROM nowhere WHERE a = $1", 1)
	tx, err := db.Begin(ctx)
	must(err)
	_, err = tx.Exec(ctx, "UPDATE items SET name = $1 WHERE id = $2", "secret", 101)
	must(err)
	must(tx.Commit(ctx))
	rows, err := db.Query(ctx, "SELECT repeat('x', 200) FROM generate_series(1, 3000)")
	must(err)
	rows.Close()
	_, err = db.Exec(ctx, "DELETE FROM items WHERE id = 101; SELECT 1 FROM items LIMIT 3")
	must(err)
	must(db.Ping(ctx))
	batch := &pgx.Batch{}
	batch.Queue("SELECT id FROM items WHERE id = $1", 1)
	batch.Queue("UPDATE items SET name = $1 WHERE id = $2", "a", 2)
	must(db.SendBatch(ctx, batch).Close())
	fmt.Println("done")
	_, _ = stdin.ReadString('\n')
}
