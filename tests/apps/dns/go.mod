module live-dns

go 1.21
