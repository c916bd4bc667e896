-- Each route with its traffic and its punctuality.
SELECT
    f.origin,
    f.destination,
    d.name AS destination_name,
    count(*) AS flights,
    count(DISTINCT f.carrier) AS carriers,
    count_if(f.cancelled) AS cancelled,
    avg(f.arrival_delay) AS average_arrival_delay,
    count_if(f.arrival_delay > 15) AS late_arrivals,
    min(f.distance) AS distance
FROM flights.silver_flights AS f
LEFT JOIN flights.bronze_airports AS d ON d.faa = f.destination
GROUP BY f.origin, f.destination, d.name
