SELECT :day AS day, n, 'a' AS word, :logical_date AS due, :data_interval_start AS since, :data_interval_end AS until
FROM UNNEST(sequence(1, 2)) AS t(n)
